/* Stands between a program and its disk (LD_PRELOAD), for the files under one directory only:
 *
 *   - makes calls fail, as a broken or full disk does, while a control file exists;
 *   - keeps a journal of what was written and what was synced, so that a test can undo what a loss of power would undo;
 *   - moves the wall clock, so that a test need not wait for an hour to pass.
 *
 * Environment:
 *
 *   FAULT_PATH     the directory; nothing below acts on other files
 *   FAULT_CONTROL  the control file. Its lines: CALL ERROR EVERY [torn]
 *                    CALL   write, sync, allocate, create or remove
 *                    ERROR  EIO or ENOSPC
 *                    EVERY  1: each call fails, n: each n-th
 *                    torn   a write that fails has written its first half all the same
 *   FAULT_JOURNAL  the journal, which journal.py reads; none without it
 *   FAULT_GRAVES   a directory on the same file system that keeps a link to each removed file, by number
 *   FAULT_CLOCK_S  seconds to add to the wall clock
 *
 * The journal is a file and not memory, since the program is to be killed. A record is in it before the write that it
 * tells of begins. A sync covers the writes that were over when it began.
 */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))
#define REAL(type, name, ...) ((type (*)(__VA_ARGS__))real(#name))
#define ACTIVE_MAX 64

enum call { WRITE, SYNC, ALLOCATE, CREATE, REMOVE, CALLS };

static const char *const call_names[CALLS] = {"write", "sync", "allocate", "create", "remove"};

/* One record of the journal: this head, the name, the former bytes. journal.py has the same layout. */
struct head {
    char kind;          /* W write, S synced, F sync failed, C created, A size changed, U removed, D directory synced */
    char unused[3];
    uint32_t name_size;
    uint64_t offset;    /* W: where */
    uint64_t data_size; /* W: how many former bytes follow */
    uint64_t former;    /* W, A: size of the file before. S, F, D: position that is covered. U: number of the grave */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static uint64_t active[ACTIVE_MAX]; /* positions of the records of writes that are not over; 0 none */
static unsigned long counts[CALLS];
static uint64_t graves;
static int journal = -1;

static void *real(const char *name) {
    void *found = dlsym(RTLD_NEXT, name);
    if (found == NULL) abort();
    return found;
}

static const char *variable(const char *name) {
    const char *value = getenv(name);
    return value != NULL && *value != '\0' ? value : NULL;
}

/* The part of an absolute path that is below the directory; NULL for other paths. "" is the directory itself. */
static const char *below(const char *path) {
    const char *directory = variable("FAULT_PATH");
    if (directory == NULL) return NULL;
    size_t size = strlen(directory);
    if (strncmp(path, directory, size) != 0) return NULL;
    if (path[size] == '\0') return "";
    return path[size] == '/' ? path + size + 1 : NULL;
}

static int name_of(int fd, char *out) {
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, sizeof path - 1);
    if (size < 0) return 0;
    path[size] = '\0';
    const char *name = below(path);
    if (name == NULL) return 0;
    strcpy(out, name);
    return 1;
}

static int name_at(const char *path, char *out) {
    char whole[PATH_MAX], directory[PATH_MAX];
    if (path[0] != '/' && getcwd(directory, sizeof directory) != NULL) {
        if (snprintf(whole, sizeof whole, "%s/%s", directory, path) >= (int)sizeof whole) return 0;
        path = whole;
    }
    const char *name = below(path);
    if (name == NULL) return 0;
    strcpy(out, name);
    return 1;
}

/* -- faults ----------------------------------------------------------------------------------------------------- */

/* The error that this call is to fail with, or 0. */
static int fault(enum call call, int *torn) {
    const char *control = variable("FAULT_CONTROL");
    if (control == NULL || access(control, F_OK) != 0) return 0;
    FILE *file = fopen(control, "re");
    if (file == NULL) return 0;
    char line[128], name[32], error[32], more[32];
    int found = 0;
    while (found == 0 && fgets(line, sizeof line, file) != NULL) {
        unsigned long every = 1;
        more[0] = '\0';
        if (sscanf(line, "%31s %31s %lu %31s", name, error, &every, more) < 2) continue;
        if (strcmp(name, call_names[call]) != 0) continue;
        pthread_mutex_lock(&lock);
        unsigned long count = ++counts[call];
        pthread_mutex_unlock(&lock);
        if (every > 1 && count % every != 0) continue;
        found = strcmp(error, "ENOSPC") == 0 ? ENOSPC : EIO;
        if (torn != NULL) *torn = strcmp(more, "torn") == 0;
    }
    fclose(file);
    return found;
}

/* -- the journal ------------------------------------------------------------------------------------------------ */

/* Where the next record will begin; at least 1, so that 0 is no position. Call it with the lock held. */
static uint64_t journal_end(void) {
    if (journal < 0) {
        const char *path = variable("FAULT_JOURNAL");
        if (path == NULL) return 0;
        journal = REAL(int, open64, const char *, int, ...)(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        if (journal < 0) abort();
    }
    struct stat about;
    if (fstat(journal, &about) != 0) abort();
    return (uint64_t)about.st_size + 1;
}

static void append(struct head head, const char *name, const void *data) {
    head.name_size = (uint32_t)strlen(name);
    struct iovec parts[3] = {
        {&head, sizeof head}, {(void *)name, head.name_size}, {(void *)data, (size_t)head.data_size}};
    ssize_t size = (ssize_t)(sizeof head + head.name_size + head.data_size);
    if (REAL(ssize_t, writev, int, const struct iovec *, int)(journal, parts, 3) != size) abort();
}

static void note(struct head head, const char *name) {
    pthread_mutex_lock(&lock);
    if (journal_end() != 0) append(head, name, NULL);
    pthread_mutex_unlock(&lock);
}

static uint64_t size_of(int fd) {
    struct stat about;
    return fstat(fd, &about) == 0 ? (uint64_t)about.st_size : 0;
}

/* What the file has where a write is going to be; bytes beyond its end are zeros. */
static char *former_bytes(int fd, size_t size, uint64_t offset) {
    char link[64];
    char *bytes = calloc(1, size + 1);
    if (bytes == NULL) abort();
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    int reader = REAL(int, open64, const char *, int, ...)(link, O_RDONLY | O_CLOEXEC);
    if (reader < 0) abort();
    for (size_t at = 0; at < size;) {
        ssize_t got = pread64(reader, bytes + at, size - at, (off64_t)(offset + at));
        if (got <= 0) break;
        at += (size_t)got;
    }
    close(reader);
    return bytes;
}

/* Notes a write that begins; gives its place among the active ones, -1 without a journal. */
static int begin_write(int fd, const char *name, size_t size, uint64_t offset) {
    if (variable("FAULT_JOURNAL") == NULL) return -1;
    char *former = former_bytes(fd, size, offset);
    struct head head = {.kind = 'W', .offset = offset, .data_size = size, .former = size_of(fd)};
    int place = 0;
    pthread_mutex_lock(&lock);
    uint64_t position = journal_end();
    while (place < ACTIVE_MAX && active[place] != 0) place++;
    if (place == ACTIVE_MAX) abort();
    active[place] = position;
    append(head, name, former);
    pthread_mutex_unlock(&lock);
    free(former);
    return place;
}

static void end_write(int place) {
    if (place < 0) return;
    pthread_mutex_lock(&lock);
    active[place] = 0;
    pthread_mutex_unlock(&lock);
}

/* What a sync that begins now covers: all records before this position. */
static uint64_t covered(void) {
    pthread_mutex_lock(&lock);
    uint64_t position = journal_end();
    for (int place = 0; place < ACTIVE_MAX; place++)
        if (active[place] != 0 && active[place] < position) position = active[place];
    pthread_mutex_unlock(&lock);
    return position;
}

/* -- writing ---------------------------------------------------------------------------------------------------- */

static ssize_t put(int fd, const void *data, size_t size, uint64_t offset) {
    return REAL(ssize_t, pwrite64, int, const void *, size_t, off64_t)(fd, data, size, (off64_t)offset);
}

static ssize_t write_here(int fd, const char *name, const void *data, size_t size, uint64_t offset) {
    int torn = 0;
    int error = fault(WRITE, &torn);
    if (error != 0 && !torn) {
        errno = error;
        return -1;
    }
    int place = begin_write(fd, name, size, offset);
    ssize_t done = put(fd, data, error != 0 ? size / 2 : size, offset);
    end_write(place);
    if (error != 0) {
        errno = error;
        return -1;
    }
    return done;
}

EXPORT ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset) {
    char name[PATH_MAX];
    if (!name_of(fd, name)) return put(fd, data, size, (uint64_t)offset);
    return write_here(fd, name, data, size, (uint64_t)offset);
}

EXPORT ssize_t pwrite(int fd, const void *data, size_t size, off_t offset) { return pwrite64(fd, data, size, offset); }

EXPORT ssize_t write(int fd, const void *data, size_t size) {
    char name[PATH_MAX];
    if (fd == journal || !name_of(fd, name)) return REAL(ssize_t, write, int, const void *, size_t)(fd, data, size);
    int appends = fcntl(fd, F_GETFL) & O_APPEND;
    off64_t offset = appends ? (off64_t)size_of(fd) : lseek64(fd, 0, SEEK_CUR);
    ssize_t done = write_here(fd, name, data, size, (uint64_t)offset);
    if (done > 0) lseek64(fd, offset + done, SEEK_SET);
    return done;
}

static ssize_t gather(int fd, const char *name, const struct iovec *parts, int count, uint64_t offset) {
    size_t size = 0, at = 0;
    for (int each = 0; each < count; each++) size += parts[each].iov_len;
    char *joined = malloc(size + 1);
    if (joined == NULL) abort();
    for (int each = 0; each < count; each++) {
        memcpy(joined + at, parts[each].iov_base, parts[each].iov_len);
        at += parts[each].iov_len;
    }
    ssize_t done = write_here(fd, name, joined, size, offset);
    free(joined);
    return done;
}

EXPORT ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t offset) {
    char name[PATH_MAX];
    if (name_of(fd, name)) return gather(fd, name, parts, count, (uint64_t)offset);
    return REAL(ssize_t, pwritev64, int, const struct iovec *, int, off64_t)(fd, parts, count, offset);
}

EXPORT ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset) {
    return pwritev64(fd, parts, count, offset);
}

EXPORT ssize_t pwritev64v2(int fd, const struct iovec *parts, int count, off64_t offset, int flags) {
    char name[PATH_MAX];
    if (name_of(fd, name)) return gather(fd, name, parts, count, (uint64_t)offset);
    return REAL(ssize_t, pwritev64v2, int, const struct iovec *, int, off64_t, int)(fd, parts, count, offset, flags);
}

EXPORT ssize_t pwritev2(int fd, const struct iovec *parts, int count, off_t offset, int flags) {
    return pwritev64v2(fd, parts, count, offset, flags);
}

EXPORT ssize_t writev(int fd, const struct iovec *parts, int count) {
    char name[PATH_MAX];
    if (fd == journal || !name_of(fd, name))
        return REAL(ssize_t, writev, int, const struct iovec *, int)(fd, parts, count);
    off64_t offset = lseek64(fd, 0, SEEK_CUR);
    ssize_t done = gather(fd, name, parts, count, (uint64_t)offset);
    if (done > 0) lseek64(fd, offset + done, SEEK_SET);
    return done;
}

/* -- syncing ---------------------------------------------------------------------------------------------------- */

static int sync_here(int fd, int (*sync)(int)) {
    char name[PATH_MAX];
    struct stat about;
    if (!name_of(fd, name) || fstat(fd, &about) != 0) return sync(fd);
    uint64_t position = covered();
    int error = fault(SYNC, NULL);
    int result = error != 0 ? -1 : sync(fd);
    if (result != 0 && error == 0) error = errno;
    char kind = result != 0 ? 'F' : S_ISDIR(about.st_mode) ? 'D' : 'S';
    note((struct head){.kind = kind, .former = position}, name);
    errno = error;
    return result;
}

EXPORT int fdatasync(int fd) { return sync_here(fd, REAL(int, fdatasync, int)); }

EXPORT int fsync(int fd) { return sync_here(fd, REAL(int, fsync, int)); }

/* -- sizes ------------------------------------------------------------------------------------------------------ */

static int allocate_here(int fd, const char *name, int mode, off64_t offset, off64_t size) {
    int error = fault(ALLOCATE, NULL);
    if (error != 0) {
        errno = error;
        return -1;
    }
    note((struct head){.kind = 'A', .former = size_of(fd)}, name);
    return REAL(int, fallocate64, int, int, off64_t, off64_t)(fd, mode, offset, size);
}

EXPORT int fallocate64(int fd, int mode, off64_t offset, off64_t size) {
    char name[PATH_MAX];
    if (name_of(fd, name)) return allocate_here(fd, name, mode, offset, size);
    return REAL(int, fallocate64, int, int, off64_t, off64_t)(fd, mode, offset, size);
}

EXPORT int fallocate(int fd, int mode, off_t offset, off_t size) { return fallocate64(fd, mode, offset, size); }

EXPORT int posix_fallocate64(int fd, off64_t offset, off64_t size) {
    int before = errno;
    int result = fallocate64(fd, 0, offset, size) == 0 ? 0 : errno;
    errno = before;
    return result;
}

EXPORT int posix_fallocate(int fd, off_t offset, off_t size) { return posix_fallocate64(fd, offset, size); }

EXPORT int ftruncate64(int fd, off64_t size) {
    char name[PATH_MAX];
    if (name_of(fd, name)) {
        int error = (uint64_t)size > size_of(fd) ? fault(ALLOCATE, NULL) : 0;
        if (error != 0) {
            errno = error;
            return -1;
        }
        note((struct head){.kind = 'A', .former = size_of(fd)}, name);
    }
    return REAL(int, ftruncate64, int, off64_t)(fd, size);
}

EXPORT int ftruncate(int fd, off_t size) { return ftruncate64(fd, size); }

/* -- files that come and go ------------------------------------------------------------------------------------- */

static int open_here(int directory, const char *path, int flags, mode_t mode) {
    char name[PATH_MAX];
    int (*open_at)(int, const char *, int, ...) = REAL(int, openat64, int, const char *, int, ...);
    if ((flags & O_CREAT) == 0 || (directory != AT_FDCWD && path[0] != '/') || !name_at(path, name))
        return open_at(directory, path, flags, mode);
    int existed = access(path, F_OK) == 0;
    int error = existed ? 0 : fault(CREATE, NULL);
    if (error != 0) {
        errno = error;
        return -1;
    }
    int fd = open_at(directory, path, flags, mode);
    if (fd >= 0 && !existed) note((struct head){.kind = 'C'}, name);
    return fd;
}

#define OPENING(name, before, directory)                                                                              \
    EXPORT int name(before const char *path, int flags, ...) {                                                        \
        va_list more;                                                                                                 \
        va_start(more, flags);                                                                                        \
        mode_t mode = (flags & (O_CREAT | O_TMPFILE)) ? va_arg(more, mode_t) : 0;                                     \
        va_end(more);                                                                                                 \
        return open_here(directory, path, flags, mode);                                                               \
    }
#define NO_DIRECTORY
#define DIRECTORY int at,

OPENING(open64, NO_DIRECTORY, AT_FDCWD)
OPENING(open, NO_DIRECTORY, AT_FDCWD)
OPENING(openat64, DIRECTORY, at)
OPENING(openat, DIRECTORY, at)

EXPORT int unlink(const char *path) {
    char name[PATH_MAX], grave[PATH_MAX];
    if (!name_at(path, name)) return REAL(int, unlink, const char *)(path);
    int error = fault(REMOVE, NULL);
    if (error != 0) {
        errno = error;
        return -1;
    }
    const char *directory = variable("FAULT_GRAVES");
    struct head head = {.kind = 'U'};
    if (directory != NULL) {
        do {
            head.former = __atomic_add_fetch(&graves, 1, __ATOMIC_RELAXED);
            snprintf(grave, sizeof grave, "%s/%lu", directory, (unsigned long)head.former);
        } while (link(path, grave) != 0 && errno == EEXIST);
    }
    int result = REAL(int, unlink, const char *)(path);
    if (result == 0) note(head, name);
    return result;
}

EXPORT int unlinkat(int directory, const char *path, int flags) {
    if ((flags & AT_REMOVEDIR) == 0 && (directory == AT_FDCWD || path[0] == '/')) return unlink(path);
    return REAL(int, unlinkat, int, const char *, int)(directory, path, flags);
}

/* -- the clock -------------------------------------------------------------------------------------------------- */

static time_t shift(void) {
    const char *value = variable("FAULT_CLOCK_S");
    return value != NULL ? (time_t)strtoll(value, NULL, 10) : 0;
}

EXPORT int clock_gettime(clockid_t clock, struct timespec *out) {
    int result = REAL(int, clock_gettime, clockid_t, struct timespec *)(clock, out);
    if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) out->tv_sec += shift();
    return result;
}

EXPORT int gettimeofday(struct timeval *restrict out, void *restrict zone) {
    int result = REAL(int, gettimeofday, struct timeval *, void *)(out, zone);
    if (result == 0) out->tv_sec += shift();
    return result;
}

EXPORT time_t time(time_t *out) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (out != NULL) *out = now.tv_sec;
    return now.tv_sec;
}
