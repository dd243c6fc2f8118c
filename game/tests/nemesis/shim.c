/* Preloaded into the game by the nemesis test: makes calls on files below one folder fail, hang, stop half-way, lie or
 * kill the process, as a control file says that the test rewrites while the process runs. It touches nothing outside that
 * folder, and sees only calls through the C library: raw system calls pass by.
 *
 * Layout of both files: see control.rs and ledger.rs, which must agree with the structures here. */
#undef _FORTIFY_SOURCE
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum class { OPEN_READ, OPEN_WRITE, READ, WRITE, SYNC, RENAME, UNLINK, MKDIR, RMDIR, TRUNCATE, LOOK, LOCK, CLASSES };
/* FAIL_AFTER does the work and denies it, as a lost answer does. HALF does half of a write and fails; SHORT does half and
 * says so. The STOPs stop the process until the test continues it. PRETEND does nothing and says it did: for locks and syncs. SLOW only waits. */
enum action { OFF, FAIL, FAIL_AFTER, HALF, SHORT, DIE_BEFORE, DIE_AFTER, PRETEND, SLOW, STOP_BEFORE, STOP_AFTER };
/* ONCE: the rule ends with its first hit. LOSE: what was not synced is gone, too, as after a failed write-back or a
 * machine's crash. */
enum flag { ONCE = 1, LOSE = 2 };

struct rule {
    uint32_t action, chance /* of 65536 */, error, delay_us, flags;
    char name[44]; /* part of the path below the folder; empty: any */
};
struct count {
    uint32_t seen, hit;
};
struct control {
    char unused[64];
    struct rule rules[CLASSES];
    char unused_too[2048 - 64 - CLASSES * sizeof(struct rule)];
    struct count counts[CLASSES];
};

/* Who wrote which file: an event whenever another process than the last one writes. */
#define PLACES (1u << 18)
struct place {
    _Atomic uint64_t key;
    _Atomic uint32_t last;
    uint32_t unused;
};
struct event {
    uint64_t key;
    uint32_t writer, done;
    char name[48];
};
struct ledger {
    _Atomic uint32_t events, full;
    char unused[56];
    struct place places[PLACES];
    struct event list[PLACES];
};

static volatile struct control *control;
static struct ledger *ledger;
static char share[4096];
static size_t share_len;
static uint32_t self;

/* How much of each file is synced, as far as this process knows. */
#define FILES 1024
static struct {
    uint64_t key;
    off_t synced;
    int fd;
} files[FILES];
static pthread_mutex_t files_lock = PTHREAD_MUTEX_INITIALIZER;

static void *map(const char *variable, size_t len) {
    const char *path = getenv(variable);
    if (!path) return NULL;
    int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC, 0);
    if (fd < 0) return NULL;
    void *at = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    syscall(SYS_close, fd);
    return at == MAP_FAILED ? NULL : at;
}

__attribute__((constructor)) static void begin(void) {
    const char *folder = getenv("NEMESIS_SHARE"), *number = getenv("NEMESIS_SELF");
    if (!folder || !number || strlen(folder) >= sizeof share) return;
    strcpy(share, folder);
    share_len = strlen(share);
    self = (uint32_t)strtoul(number, NULL, 10);
    ledger = map("NEMESIS_LEDGER", sizeof *ledger);
    control = map("NEMESIS_CONTROL", sizeof *control);
}

/* The part of an absolute path below the folder, "" for the folder itself, NULL for anything else. */
static const char *inside(const char *path) {
    if (!control || strncmp(path, share, share_len) != 0) return NULL;
    if (path[share_len] == '\0') return path + share_len;
    return path[share_len] == '/' ? path + share_len + 1 : NULL;
}

static const char *of_link(const char *link, char *buffer) {
    int saved = errno;
    ssize_t len = syscall(SYS_readlinkat, AT_FDCWD, link, buffer, 4095);
    errno = saved;
    if (len < 0) return NULL;
    buffer[len] = '\0';
    return buffer;
}

static const char *of_fd(int fd, char *buffer) {
    if (!control || fd < 0) return NULL;
    char link[40];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    const char *path = of_link(link, buffer);
    return path ? inside(path) : NULL;
}

static const char *of_path(int dirfd, const char *path, char *buffer) {
    if (!control || !path || !*path) return NULL;
    if (*path == '/') return inside(path);
    char link[40];
    if (dirfd == AT_FDCWD) strcpy(link, "/proc/self/cwd");
    else snprintf(link, sizeof link, "/proc/self/fd/%d", dirfd);
    if (!of_link(link, buffer) || strlen(buffer) + strlen(path) + 2 > 4096) return NULL;
    strcat(strcat(buffer, "/"), path);
    return inside(buffer);
}

static uint32_t dice(void) {
    static _Thread_local uint64_t state;
    if (!state) state = ((uint64_t)time(NULL) << 32) ^ (uint64_t)syscall(SYS_gettid) * 0x9E3779B97F4A7C15u ^ self;
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state >> 40) & 0xFFFF;
}

static void wait_us(volatile struct rule *rule, uint32_t us) {
    /* In steps, so that healing the share ends a hang. */
    while (us > 0 && rule->delay_us > 0) {
        uint32_t step = us < 5000 ? us : 5000;
        struct timespec time = {0, step * 1000L};
        nanosleep(&time, NULL);
        us -= step;
    }
}

/* What a regular file is known by, and its length; 0 for anything else. Numbers of removed files are used again at once:
 * the time of birth tells them apart. */
static uint64_t identify(int fd, off_t *len) {
    struct statx about;
    int saved = errno;
    long done = syscall(SYS_statx, fd, "", AT_EMPTY_PATH, STATX_TYPE | STATX_INO | STATX_SIZE | STATX_BTIME, &about);
    errno = saved;
    if (done != 0 || !S_ISREG(about.stx_mode)) return 0;
    *len = (off_t)about.stx_size;
    uint64_t key = about.stx_ino * 0x9E3779B97F4A7C15u ^ (uint64_t)about.stx_btime.tv_sec * 1000000007u;
    return (key ^ about.stx_btime.tv_nsec) * 0xBF58476D1CE4E5B9u | 1;
}

/* The tail of a file that was never synced: cut off, or zeros, as file systems leave it. */
static void lose_tail(int fd, off_t len, off_t synced) {
    if (len <= synced) return;
    if (dice() & 1) {
        syscall(SYS_ftruncate, fd, synced);
        return;
    }
    static const char zeros[4096];
    for (off_t at = synced; at < len; at += sizeof zeros) {
        off_t left = len - at;
        syscall(SYS_pwrite64, fd, zeros, left < (off_t)sizeof zeros ? left : (off_t)sizeof zeros, at);
    }
}

static unsigned entry(uint64_t key) {
    unsigned start = (unsigned)(key >> 20) % FILES;
    for (unsigned n = 0; n < FILES; n++) {
        unsigned at = (start + n) % FILES;
        if (files[at].key == key || files[at].key == 0) return at;
    }
    /* Full: begin anew; less is lost then, which is never wrong. */
    memset(files, 0, sizeof files);
    return start;
}

/* Before a write: what is there by then counts as synced if the file was never seen. */
static void note_write(int fd) {
    off_t len;
    uint64_t key = identify(fd, &len);
    if (!key) return;
    pthread_mutex_lock(&files_lock);
    unsigned at = entry(key);
    if (files[at].key == 0) {
        files[at].key = key;
        files[at].synced = len;
    }
    files[at].fd = fd;
    pthread_mutex_unlock(&files_lock);
}

/* After a sync of everything up to this length, or a cut to it, or (lost) a failed sync. */
static void note_synced(int fd, off_t synced, int cut, int lost) {
    off_t len;
    uint64_t key = identify(fd, &len);
    if (!key) return;
    pthread_mutex_lock(&files_lock);
    unsigned at = entry(key);
    if (files[at].key != 0) {
        if (lost) lose_tail(fd, len, files[at].synced);
        else if (cut ? synced < files[at].synced : synced > files[at].synced) files[at].synced = synced;
    }
    pthread_mutex_unlock(&files_lock);
}

static void die(int lose) {
    if (lose) {
        pthread_mutex_lock(&files_lock);
        for (int at = 0; at < FILES; at++) {
            off_t len;
            if (files[at].key == 0 || identify(files[at].fd, &len) != files[at].key) continue;
            lose_tail(files[at].fd, len, files[at].synced);
        }
    }
    for (;;) kill(getpid(), SIGKILL);
}

struct verdict {
    uint32_t action;
    int error, lose;
};

/* What happens to a call; the waiting is done here, and so is dying before it. */
static struct verdict judge(enum class class, const char *name) {
    struct verdict none = {OFF, 0, 0};
    volatile struct rule *rule = &control->rules[class];
    __atomic_fetch_add(&control->counts[class].seen, 1, __ATOMIC_RELAXED);
    uint32_t action = rule->action, chance = rule->chance, flags = rule->flags, error = rule->error;
    if (action == OFF || chance == 0 || dice() >= chance) return none;
    char wanted[sizeof rule->name];
    memcpy(wanted, (const void *)rule->name, sizeof wanted);
    wanted[sizeof wanted - 1] = '\0';
    if (*wanted && !strstr(name, wanted)) return none;
    if (flags & ONCE && __atomic_exchange_n(&rule->chance, 0, __ATOMIC_RELAXED) == 0) return none;
    __atomic_fetch_add(&control->counts[class].hit, 1, __ATOMIC_RELAXED);
    int saved = errno;
    wait_us(rule, rule->delay_us);
    if (action == DIE_BEFORE) die(flags & LOSE);
    if (action == STOP_BEFORE) kill(getpid(), SIGSTOP);
    errno = saved;
    return (struct verdict){action == SLOW || action == STOP_BEFORE ? OFF : action, (int)error, flags & LOSE};
}

static long refuse(struct verdict verdict) {
    errno = verdict.error;
    return -1;
}

/* The end of a call that was carried out. */
static long outcome(struct verdict verdict, long result) {
    if (verdict.action == DIE_AFTER) die(verdict.lose);
    if (verdict.action == STOP_AFTER) {
        int saved = errno;
        kill(getpid(), SIGSTOP);
        errno = saved;
    }
    return verdict.action == FAIL_AFTER ? refuse(verdict) : result;
}

static void write_down(int fd, const char *name) {
    int saved = errno;
    off_t len;
    uint64_t key = ledger ? identify(fd, &len) : 0;
    if (!key) goto end;
    for (uint32_t n = 0; n < PLACES; n++) {
        struct place *place = &ledger->places[(uint32_t)((key >> 20) + n) % PLACES];
        uint64_t found = 0;
        if (!atomic_compare_exchange_strong(&place->key, &found, key) && found != key) continue;
        if (atomic_load(&place->last) == self || atomic_exchange(&place->last, self) == self) goto end;
        uint32_t at = atomic_fetch_add(&ledger->events, 1);
        if (at >= PLACES) break;
        struct event *event = &ledger->list[at];
        event->key = key;
        event->writer = self;
        strncpy(event->name, name, sizeof event->name - 1);
        event->done = 1;
        goto end;
    }
    atomic_store(&ledger->full, 1);
end:
    errno = saved;
}

static ssize_t put(int fd, const void *bytes, size_t len, off_t at, int placed) {
    char buffer[4096];
    const char *name = of_fd(fd, buffer);
    struct verdict verdict = {OFF, 0, 0};
    if (name) {
        verdict = judge(WRITE, name);
        if (verdict.action == FAIL) return refuse(verdict);
        if (verdict.action == HALF || verdict.action == SHORT) len = len > 1 ? len / 2 : len;
        note_write(fd);
        write_down(fd, name);
    }
    ssize_t done = placed ? syscall(SYS_pwrite64, fd, bytes, len, at) : syscall(SYS_write, fd, bytes, len);
    if (!name) return done;
    write_down(fd, name);
    return verdict.action == HALF ? refuse(verdict) : outcome(verdict, done);
}

ssize_t write(int fd, const void *bytes, size_t len) { return put(fd, bytes, len, 0, 0); }
ssize_t pwrite(int fd, const void *bytes, size_t len, off_t at) { return put(fd, bytes, len, at, 1); }
ssize_t pwrite64(int fd, const void *bytes, size_t len, off_t at) { return put(fd, bytes, len, at, 1); }

/* Several buffers at once: half of such a write is its first buffer. */
static ssize_t put_all(int fd, const struct iovec *parts, int count, off_t at, int placed) {
    char buffer[4096];
    if (count < 1 || !of_fd(fd, buffer)) {
        return placed ? syscall(SYS_pwritev, fd, parts, count, at, 0) : syscall(SYS_writev, fd, parts, count);
    }
    size_t len = 0;
    for (int n = 0; n < count; n++) len += parts[n].iov_len;
    char *whole = malloc(len + 1);
    if (!whole) return refuse((struct verdict){FAIL, ENOMEM, 0});
    len = 0;
    for (int n = 0; n < count; n++) {
        memcpy(whole + len, parts[n].iov_base, parts[n].iov_len);
        len += parts[n].iov_len;
    }
    ssize_t done = put(fd, whole, len, at, placed);
    int saved = errno;
    free(whole);
    errno = saved;
    return done;
}

ssize_t writev(int fd, const struct iovec *parts, int count) { return put_all(fd, parts, count, 0, 0); }
ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t at) { return put_all(fd, parts, count, at, 1); }
ssize_t pwritev64(int fd, const struct iovec *parts, int count, off_t at) { return put_all(fd, parts, count, at, 1); }

ssize_t copy_file_range(int in, off_t *in_at, int out, off_t *out_at, size_t len, unsigned flags) {
    char buffer[4096];
    const char *name = of_fd(out, buffer);
    /* Callers then copy by reading and writing, where everything else can go wrong. */
    if (name) return refuse((struct verdict){FAIL, ENOSYS, 0});
    return syscall(SYS_copy_file_range, in, in_at, out, out_at, len, flags);
}

static ssize_t get(int fd, void *bytes, size_t len, off_t at, int placed) {
    char buffer[4096];
    const char *name = of_fd(fd, buffer);
    struct verdict verdict = name ? judge(READ, name) : (struct verdict){OFF, 0, 0};
    if (verdict.action == FAIL || verdict.action == HALF) return refuse(verdict);
    if (verdict.action == SHORT && len > 1) len /= 2;
    ssize_t done = placed ? syscall(SYS_pread64, fd, bytes, len, at) : syscall(SYS_read, fd, bytes, len);
    return outcome(verdict, done);
}

ssize_t read(int fd, void *bytes, size_t len) { return get(fd, bytes, len, 0, 0); }
ssize_t pread(int fd, void *bytes, size_t len, off_t at) { return get(fd, bytes, len, at, 1); }
ssize_t pread64(int fd, void *bytes, size_t len, off_t at) { return get(fd, bytes, len, at, 1); }

static int sync_file(int fd, long call) {
    char buffer[4096];
    const char *name = of_fd(fd, buffer);
    if (!name) return (int)syscall(call, fd);
    struct verdict verdict = judge(SYNC, name);
    if (verdict.action == FAIL) {
        if (verdict.lose) note_synced(fd, 0, 0, 1);
        return (int)refuse(verdict);
    }
    if (verdict.action == PRETEND) return 0;
    struct stat before;
    int known = fstat(fd, &before) == 0;
    int done = (int)syscall(call, fd);
    if (done == 0 && known) note_synced(fd, before.st_size, 0, 0);
    return (int)outcome(verdict, done);
}

int fsync(int fd) { return sync_file(fd, SYS_fsync); }
int fdatasync(int fd) { return sync_file(fd, SYS_fdatasync); }

static int open_file(int dirfd, const char *path, int flags, mode_t mode) {
    char buffer[4096];
    const char *name = of_path(dirfd, path, buffer);
    if (!name) return (int)syscall(SYS_openat, dirfd, path, flags, mode);
    int writes = (flags & O_ACCMODE) != O_RDONLY || (flags & (O_CREAT | O_TRUNC)) != 0;
    struct verdict verdict = judge(writes ? OPEN_WRITE : OPEN_READ, name);
    if (verdict.action == FAIL) return (int)refuse(verdict);
    int fd = (int)syscall(SYS_openat, dirfd, path, flags, mode);
    if (verdict.action == FAIL_AFTER && fd >= 0) syscall(SYS_close, fd);
    return (int)outcome(verdict, fd);
}

#define MODE(flags, mode)                                                                                                  \
    mode_t mode = 0;                                                                                                       \
    if ((flags) & (O_CREAT | O_TMPFILE)) {                                                                                 \
        va_list rest;                                                                                                      \
        va_start(rest, flags);                                                                                             \
        mode = va_arg(rest, mode_t);                                                                                       \
        va_end(rest);                                                                                                      \
    }

int open(const char *path, int flags, ...) {
    MODE(flags, mode)
    return open_file(AT_FDCWD, path, flags, mode);
}
int open64(const char *path, int flags, ...) {
    MODE(flags, mode)
    return open_file(AT_FDCWD, path, flags, mode);
}
int openat(int dirfd, const char *path, int flags, ...) {
    MODE(flags, mode)
    return open_file(dirfd, path, flags, mode);
}
int openat64(int dirfd, const char *path, int flags, ...) {
    MODE(flags, mode)
    return open_file(dirfd, path, flags, mode);
}
int creat(const char *path, mode_t mode) { return open_file(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }
int creat64(const char *path, mode_t mode) { return open_file(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }

/* A call on a name: refused, or carried out with its outcome judged. */
#define ON_NAME(class, dirfd, path, call)                                                                                  \
    char buffer[4096];                                                                                                     \
    const char *name = of_path(dirfd, path, buffer);                                                                       \
    if (!name) return (int)(call);                                                                                         \
    struct verdict verdict = judge(class, name);                                                                           \
    if (verdict.action == FAIL) return (int)refuse(verdict);                                                               \
    return (int)outcome(verdict, call);

int renameat2(int fromfd, const char *from, int tofd, const char *to, unsigned flags) {
    ON_NAME(RENAME, tofd, to, syscall(SYS_renameat2, fromfd, from, tofd, to, flags))
}
int renameat(int fromfd, const char *from, int tofd, const char *to) { return renameat2(fromfd, from, tofd, to, 0); }
int rename(const char *from, const char *to) { return renameat2(AT_FDCWD, from, AT_FDCWD, to, 0); }
int linkat(int fromfd, const char *from, int tofd, const char *to, int flags) {
    ON_NAME(RENAME, tofd, to, syscall(SYS_linkat, fromfd, from, tofd, to, flags))
}
int link(const char *from, const char *to) { return linkat(AT_FDCWD, from, AT_FDCWD, to, 0); }
int unlinkat(int dirfd, const char *path, int flags) {
    ON_NAME(flags & AT_REMOVEDIR ? RMDIR : UNLINK, dirfd, path, syscall(SYS_unlinkat, dirfd, path, flags))
}
int unlink(const char *path) { return unlinkat(AT_FDCWD, path, 0); }
int rmdir(const char *path) { return unlinkat(AT_FDCWD, path, AT_REMOVEDIR); }
int mkdirat(int dirfd, const char *path, mode_t mode) {
    ON_NAME(MKDIR, dirfd, path, syscall(SYS_mkdirat, dirfd, path, mode))
}
int mkdir(const char *path, mode_t mode) { return mkdirat(AT_FDCWD, path, mode); }

static int cut(int fd, off_t len) {
    char buffer[4096];
    const char *name = of_fd(fd, buffer);
    if (!name) return (int)syscall(SYS_ftruncate, fd, len);
    struct verdict verdict = judge(TRUNCATE, name);
    if (verdict.action == FAIL) return (int)refuse(verdict);
    int done = (int)syscall(SYS_ftruncate, fd, len);
    if (done == 0) note_synced(fd, len, 1, 0);
    return (int)outcome(verdict, done);
}
int ftruncate(int fd, off_t len) { return cut(fd, len); }
int ftruncate64(int fd, off_t len) { return cut(fd, len); }

static int room(int fd, int mode, off_t at, off_t len) {
    char buffer[4096];
    const char *name = of_fd(fd, buffer);
    struct verdict verdict = name ? judge(WRITE, name) : (struct verdict){OFF, 0, 0};
    if (verdict.action == FAIL || verdict.action == HALF) return (int)refuse(verdict);
    return (int)outcome(verdict, syscall(SYS_fallocate, fd, mode, at, len));
}
int fallocate(int fd, int mode, off_t at, off_t len) { return room(fd, mode, at, len); }
int fallocate64(int fd, int mode, off_t at, off_t len) { return room(fd, mode, at, len); }

/* Looking: the next definition of the same function does it. */
#define NEXT(result, function, ...)                                                                                        \
    static result (*next)(__VA_ARGS__);                                                                                    \
    if (!next) next = (result(*)(__VA_ARGS__))dlsym(RTLD_NEXT, function);

int statx(int dirfd, const char *path, int flags, unsigned mask, struct statx *about) {
    ON_NAME(LOOK, dirfd, path, syscall(SYS_statx, dirfd, path, flags, mask, about))
}
int stat(const char *path, struct stat *about) {
    NEXT(int, "stat", const char *, struct stat *)
    ON_NAME(LOOK, AT_FDCWD, path, next(path, about))
}
int stat64(const char *path, struct stat64 *about) {
    NEXT(int, "stat64", const char *, struct stat64 *)
    ON_NAME(LOOK, AT_FDCWD, path, next(path, about))
}
int lstat(const char *path, struct stat *about) {
    NEXT(int, "lstat", const char *, struct stat *)
    ON_NAME(LOOK, AT_FDCWD, path, next(path, about))
}
int lstat64(const char *path, struct stat64 *about) {
    NEXT(int, "lstat64", const char *, struct stat64 *)
    ON_NAME(LOOK, AT_FDCWD, path, next(path, about))
}
int access(const char *path, int mode) { ON_NAME(LOOK, AT_FDCWD, path, syscall(SYS_faccessat, AT_FDCWD, path, mode)) }
DIR *opendir(const char *path) {
    NEXT(DIR *, "opendir", const char *)
    char buffer[4096];
    const char *name = of_path(AT_FDCWD, path, buffer);
    if (!name) return next(path);
    struct verdict verdict = judge(LOOK, name);
    if (verdict.action == FAIL || verdict.action == FAIL_AFTER) {
        refuse(verdict);
        return NULL;
    }
    return next(path);
}

/* Locks of open files only: SQLite's own are of another kind, and left alone. */
static int control_file(int fd, int command, void *argument) {
    if (command == F_OFD_SETLK || command == F_OFD_SETLKW) {
        char buffer[4096];
        const char *name = of_fd(fd, buffer);
        struct verdict verdict = name ? judge(LOCK, name) : (struct verdict){OFF, 0, 0};
        if (verdict.action == PRETEND) return 0;
        if (verdict.action == FAIL) return (int)refuse(verdict);
        return (int)outcome(verdict, syscall(SYS_fcntl, fd, command, argument));
    }
    return (int)syscall(SYS_fcntl, fd, command, argument);
}
int fcntl(int fd, int command, ...) {
    va_list rest;
    va_start(rest, command);
    void *argument = va_arg(rest, void *);
    va_end(rest);
    return control_file(fd, command, argument);
}
int fcntl64(int fd, int command, ...) {
    va_list rest;
    va_start(rest, command);
    void *argument = va_arg(rest, void *);
    va_end(rest);
    return control_file(fd, command, argument);
}
