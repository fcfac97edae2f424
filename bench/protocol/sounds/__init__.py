"""What several tasks make of sounds; a task whose numbers hang on one of these names it in `Task.modules`."""
