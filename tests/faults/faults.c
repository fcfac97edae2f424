/* Faults of a disk, for processes under test: preloaded, it stands between a program and the system's calls on files.
 *
 * FAULT_UNDER    only what concerns files whose path contains this text
 * FAULT_COUNTER  a file of two 64-bit numbers, shared by all processes: changes and reads so far
 * FAULT_DO       kill   the process with SIGKILL before change number FAULT_AT; a write is left half done
 *                full   from change number FAULT_AT on, whatever needs space fails with ENOSPC; the first write by half
 *                eio    read number FAULT_AT fails with EIO, once
 *                dying  every read from number FAULT_AT on does
 *                short  reads return fewer bytes than asked for
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#define REAL(name) ((__typeof__(&name))real(#name))

enum { CHANGES, READS };

static void *real(const char *name) {
    return dlsym(RTLD_NEXT, name);
}

/* The text of a path, or of what a descriptor is open on, or of a path that begins at an open folder. */
static const char *absolute(int folder, const char *path, char *text) {
    char link[64];
    size_t length = 0;
    if (!path || path[0] != '/') {
        if (folder == AT_FDCWD) {
            if (!getcwd(text, PATH_MAX)) return "";
            length = strlen(text);
        } else {
            snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
            ssize_t got = readlink(link, text, PATH_MAX - 1);
            if (got < 0) return "";
            length = (size_t)got;
        }
        text[length] = 0;
        if (!path) return text;
        if (length + 1 < PATH_MAX) text[length++] = '/';
    }
    snprintf(text + length, PATH_MAX - length, "%s", path);
    return text;
}

/* The number of this call among those that count, from 1; 0 if it does not. */
static long number(int kind, int folder, const char *path) {
    const char *under = getenv("FAULT_UNDER"), *file = getenv("FAULT_COUNTER");
    char text[PATH_MAX];
    int kept = errno;
    if (!under || !file || !strstr(absolute(folder, path, text), under)) {
        errno = kept;
        return 0;
    }
    int counter = REAL(open)(file, O_RDWR | O_CLOEXEC);
    if (counter < 0) { /* no descriptor left: as on any machine, and no fault of ours */
        errno = kept;
        return 0;
    }
    long *counts = mmap(NULL, 2 * sizeof(long), PROT_READ | PROT_WRITE, MAP_SHARED, counter, 0);
    close(counter);
    if (counts == MAP_FAILED) abort();
    long value = __atomic_add_fetch(&counts[kind], 1, __ATOMIC_SEQ_CST);
    munmap(counts, 2 * sizeof(long));
    errno = kept;
    return value;
}

static int doing(const char *what) {
    const char *fault = getenv("FAULT_DO");
    return fault && !strcmp(fault, what);
}

static long at(void) {
    const char *text = getenv("FAULT_AT");
    return text ? atol(text) : LONG_MAX;
}

static void die(void) {
    kill(getpid(), SIGKILL);
    for (;;) pause();
}

/* Whether a change that needs space must fail; it does not return where the process is to die before the change. */
static int fails(int folder, const char *path, int needs_space) {
    long now = number(CHANGES, folder, path);
    if (now && doing("kill") && now == at()) die();
    if (now && needs_space && doing("full") && now >= at()) {
        errno = ENOSPC;
        return 1;
    }
    return 0;
}

/* How many bytes of a write may be written: all, half of them (and then *end), or none, with errno set. */
static size_t writable(int file, size_t size, int *end) {
    long now = number(CHANGES, file, NULL);
    *end = 0;
    if (now && doing("kill") && now == at()) {
        *end = 1;
        return size / 2;
    }
    if (now && doing("full") && now == at() && size > 1) return size / 2;
    if (now && doing("full") && now >= at()) {
        errno = ENOSPC;
        return 0;
    }
    return size;
}

static size_t readable(int file, size_t size) {
    long now = number(READS, file, NULL);
    if (now && ((doing("eio") && now == at()) || (doing("dying") && now >= at()))) {
        errno = EIO;
        return 0;
    }
    if (now && doing("short") && size > 1) return 1 + (size_t)((now * 7919) % (long)(size - 1));
    return size;
}

ssize_t read(int file, void *buffer, size_t size) {
    size_t some = readable(file, size);
    return size && !some ? -1 : REAL(read)(file, buffer, some);
}

ssize_t pread(int file, void *buffer, size_t size, off_t offset) {
    size_t some = readable(file, size);
    return size && !some ? -1 : REAL(pread)(file, buffer, some, offset);
}

ssize_t pread64(int file, void *buffer, size_t size, off64_t offset) {
    size_t some = readable(file, size);
    return size && !some ? -1 : REAL(pread64)(file, buffer, some, offset);
}

ssize_t write(int file, const void *buffer, size_t size) {
    int end;
    size_t some = writable(file, size, &end);
    if (size && !some && !end) return -1;
    ssize_t done = REAL(write)(file, buffer, some);
    if (end) die();
    return done;
}

ssize_t pwrite(int file, const void *buffer, size_t size, off_t offset) {
    int end;
    size_t some = writable(file, size, &end);
    if (size && !some && !end) return -1;
    ssize_t done = REAL(pwrite)(file, buffer, some, offset);
    if (end) die();
    return done;
}

ssize_t pwrite64(int file, const void *buffer, size_t size, off64_t offset) {
    int end;
    size_t some = writable(file, size, &end);
    if (size && !some && !end) return -1;
    ssize_t done = REAL(pwrite64)(file, buffer, some, offset);
    if (end) die();
    return done;
}

static int opening(int folder, const char *path, int flags) {
    return (flags & (O_CREAT | O_TRUNC)) && fails(folder, path, flags & O_CREAT);
}

#define MODE(flags)                         \
    mode_t mode = 0;                        \
    if ((flags) & (O_CREAT | O_TMPFILE)) {  \
        va_list rest;                       \
        va_start(rest, flags);              \
        mode = va_arg(rest, mode_t);        \
        va_end(rest);                       \
    }

int open(const char *path, int flags, ...) {
    MODE(flags)
    return opening(AT_FDCWD, path, flags) ? -1 : REAL(open)(path, flags, mode);
}

int open64(const char *path, int flags, ...) {
    MODE(flags)
    return opening(AT_FDCWD, path, flags) ? -1 : REAL(open64)(path, flags, mode);
}

int openat(int folder, const char *path, int flags, ...) {
    MODE(flags)
    return opening(folder, path, flags) ? -1 : REAL(openat)(folder, path, flags, mode);
}

int openat64(int folder, const char *path, int flags, ...) {
    MODE(flags)
    return opening(folder, path, flags) ? -1 : REAL(openat64)(folder, path, flags, mode);
}

int mkdir(const char *path, mode_t mode) {
    return fails(AT_FDCWD, path, 1) ? -1 : REAL(mkdir)(path, mode);
}

int mkdirat(int folder, const char *path, mode_t mode) {
    return fails(folder, path, 1) ? -1 : REAL(mkdirat)(folder, path, mode);
}

int rename(const char *from, const char *to) {
    return fails(AT_FDCWD, to, 0) ? -1 : REAL(rename)(from, to);
}

int renameat(int first, const char *from, int second, const char *to) {
    return fails(second, to, 0) ? -1 : REAL(renameat)(first, from, second, to);
}

int link(const char *from, const char *to) {
    return fails(AT_FDCWD, to, 0) ? -1 : REAL(link)(from, to);
}

int symlink(const char *from, const char *to) {
    return fails(AT_FDCWD, to, 0) ? -1 : REAL(symlink)(from, to);
}

int unlink(const char *path) {
    return fails(AT_FDCWD, path, 0) ? -1 : REAL(unlink)(path);
}

int unlinkat(int folder, const char *path, int flags) {
    return fails(folder, path, 0) ? -1 : REAL(unlinkat)(folder, path, flags);
}

int rmdir(const char *path) {
    return fails(AT_FDCWD, path, 0) ? -1 : REAL(rmdir)(path);
}

int truncate(const char *path, off_t size) {
    return fails(AT_FDCWD, path, 0) ? -1 : REAL(truncate)(path, size);
}

int truncate64(const char *path, off64_t size) {
    return fails(AT_FDCWD, path, 0) ? -1 : REAL(truncate64)(path, size);
}

int ftruncate(int file, off_t size) {
    return fails(file, NULL, 0) ? -1 : REAL(ftruncate)(file, size);
}

int ftruncate64(int file, off64_t size) {
    return fails(file, NULL, 0) ? -1 : REAL(ftruncate64)(file, size);
}

int fsync(int file) {
    return fails(file, NULL, 0) ? -1 : REAL(fsync)(file);
}
