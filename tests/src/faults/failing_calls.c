/*
 * Makes system calls on chosen files fail, in a process that preloads this library.
 *
 * FAULTS_ON         prefix of the paths of the chosen files
 * FAULTS_CALL       number of the one write, truncation or sync that fails with EIO, counted from 1
 * FAULTS_HIT        file to create when that call fails
 * FAULTS_FULL       while this file exists, writes and truncations fail with ENOSPC
 * FAULTS_UNSYNCED   while this file exists, syncs fail with EIO
 * FAULTS_READ_ONLY  if set, opening the chosen files for writing fails with EROFS
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static int is_chosen(const char *path) {
    const char *files = getenv("FAULTS_ON");
    return files && strncmp(path, files, strlen(files)) == 0;
}

static int is_open_on_chosen(int file) {
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0)
        return 0;
    path[length] = 0;
    return is_chosen(path);
}

static int fails(int file, int is_write) {
    static atomic_long calls;
    const char *full = getenv("FAULTS_FULL"), *unsynced = getenv("FAULTS_UNSYNCED");
    const char *call = getenv("FAULTS_CALL"), *hit = getenv("FAULTS_HIT");
    if (!is_open_on_chosen(file))
        return 0;
    if (is_write && full && access(full, F_OK) == 0) {
        errno = ENOSPC;
        return 1;
    }
    if (!is_write && unsynced && access(unsynced, F_OK) == 0) {
        errno = EIO;
        return 1;
    }
    if (call && atomic_fetch_add(&calls, 1) + 1 == atol(call)) {
        if (hit)
            close(REAL(open)(hit, O_CREAT | O_WRONLY, 0600));
        errno = EIO;
        return 1;
    }
    return 0;
}

ssize_t pwrite64(int file, const void *bytes, size_t count, off64_t offset) {
    return fails(file, 1) ? -1 : REAL(pwrite64)(file, bytes, count, offset);
}

ssize_t pwrite(int file, const void *bytes, size_t count, off_t offset) {
    return pwrite64(file, bytes, count, offset);
}

ssize_t write(int file, const void *bytes, size_t count) {
    return fails(file, 1) ? -1 : REAL(write)(file, bytes, count);
}

int fsync(int file) {
    return fails(file, 0) ? -1 : REAL(fsync)(file);
}

int fdatasync(int file) {
    return fails(file, 0) ? -1 : REAL(fdatasync)(file);
}

int ftruncate64(int file, off64_t length) {
    return fails(file, 1) ? -1 : REAL(ftruncate64)(file, length);
}

int ftruncate(int file, off_t length) {
    return ftruncate64(file, length);
}

int open64(const char *path, int flags, ...) {
    mode_t mode = 0;
    if ((flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE) {
        va_list more;
        va_start(more, flags);
        mode = va_arg(more, mode_t);
        va_end(more);
    }
    if ((flags & O_ACCMODE) != O_RDONLY && getenv("FAULTS_READ_ONLY") && is_chosen(path)) {
        errno = EROFS;
        return -1;
    }
    return REAL(open64)(path, flags, mode);
}

/* They are one function in the C library of a 64-bit system. */
int open(const char *path, int flags, ...) __attribute__((alias("open64")));
