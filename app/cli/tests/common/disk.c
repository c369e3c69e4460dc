/* A disk that fails on command. Preloaded into a program, this stands between it and the C library: every write, sync,
 * rename and removal below one folder passes through here. It is for tests, and is built by them.
 *
 *   DISK_HOME    the folder; other files are left alone
 *   DISK_SHADOW  a folder that holds what a power cut would leave: each file as it was when last synced
 *   DISK_LIES    syncs of files whose name contains this are not done, but said to be (what a forgotten fsync is)
 *   DISK_FAULT   OP:NAME:NTH:ACT: the NTH operation OP (write, sync, rename, unlink) on a file whose name contains NAME
 *                fails with `eio`; or it and all writes after it with `enospc`; or the process is killed before it, `before`,
 *                or once it is done, `after`
 *   DISK_TRACE   a file that gets a line `OP NAME` for each operation, and `fault NAME` where one is due
 *
 * Renames and removals count as durable at once, as file systems with ordered data make them in practice.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static pthread_mutex_t shadow_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t count_lock = PTHREAD_MUTEX_INITIALIZER;

/* The name of a path below the folder, or NULL. */
static const char *below_home(const char *path) {
  const char *home = getenv("DISK_HOME");
  size_t length = home ? strlen(home) : 0;
  if (!length || strncmp(path, home, length) || path[length] != '/') return NULL;
  return path + length + 1;
}

/* The name of an open file below the folder, or NULL. */
static const char *name_of(int fd, char path[PATH_MAX]) {
  char link[64];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, PATH_MAX - 1);
  if (length <= 0) return NULL;
  path[length] = 0;
  return strstr(path, " (deleted)") ? NULL : below_home(path);
}

/* The same for a path that may be relative to an open folder. */
static const char *name_at(int folder, const char *given, char path[PATH_MAX]) {
  if (given[0] == '/') return below_home(given);
  char base[PATH_MAX];
  if (folder == AT_FDCWD) {
    if (!getcwd(base, sizeof base)) return NULL;
  } else {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
    ssize_t length = readlink(link, base, sizeof base - 1);
    if (length <= 0) return NULL;
    base[length] = 0;
  }
  if (snprintf(path, PATH_MAX, "%s/%s", base, given) >= PATH_MAX) return NULL;
  return below_home(path);
}

static void trace(const char *op, const char *name) {
  const char *to = getenv("DISK_TRACE");
  if (!to) return;
  char line[PATH_MAX + 16];
  int length = snprintf(line, sizeof line, "%s %s\n", op, name);
  int fd = open(to, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0) return;
  ssize_t done = REAL(write)(fd, line, (size_t)length);
  (void)done;
  close(fd);
}

/* What is to happen to this operation: NULL, or the act that DISK_FAULT names. */
static const char *fault(const char *op, const char *name) {
  static char text[PATH_MAX], *part, *act;
  static long nth, seen;
  static int is_full, is_read;
  const char *due = NULL;
  trace(op, name);
  pthread_mutex_lock(&count_lock);
  if (!is_read) {
    is_read = 1;
    const char *given = getenv("DISK_FAULT");
    if (given && snprintf(text, sizeof text, "%s", given) < (int)sizeof text && (part = strchr(text, ':'))) {
      *part++ = 0;
      char *count = strchr(part, ':');
      act = count ? strchr(count + 1, ':') : NULL;
      if (act) {
        *count++ = 0;
        *act++ = 0;
        nth = atol(count);
      }
    }
  }
  if (act && is_full) {
    due = strcmp(op, "write") ? NULL : act;
  } else if (act && !strcmp(op, text) && strstr(name, part) && ++seen == nth) {
    is_full = !strcmp(act, "enospc");
    due = act;
  }
  pthread_mutex_unlock(&count_lock);
  if (due) trace("fault", name);
  return due;
}

/* Does an operation under the fault that is due to it. */
#define UNDER_FAULT(op, name, call)                                            \
  do {                                                                         \
    const char *due = (name) ? fault(op, name) : NULL;                         \
    if (due && !strcmp(due, "before")) kill(getpid(), SIGKILL);                \
    if (due && !strcmp(due, "eio")) return errno = EIO, -1;                    \
    if (due && !strcmp(due, "enospc")) return errno = ENOSPC, -1;              \
    __typeof__(call) result = (call);                                          \
    if (due && !strcmp(due, "after")) kill(getpid(), SIGKILL);                 \
    return result;                                                             \
  } while (0)

static int shadow_path(const char *name, char path[PATH_MAX]) {
  const char *shadow = getenv("DISK_SHADOW");
  return shadow && snprintf(path, PATH_MAX, "%s/%s", shadow, name) < PATH_MAX;
}

/* Makes the folders that a path needs. */
static void make_way(char *path) {
  for (char *at = strchr(path + 1, '/'); at; at = strchr(at + 1, '/')) {
    *at = 0;
    mkdir(path, 0700);
    *at = '/';
  }
}

/* Keeps the file as it is now. In one step: a process killed here leaves the older copy. */
static void keep(int fd, const char *name) {
  char to[PATH_MAX], part[PATH_MAX + 8], from[64];
  struct stat stat;
  if (!shadow_path(name, to) || fstat(fd, &stat) || !S_ISREG(stat.st_mode)) return;
  pthread_mutex_lock(&shadow_lock);
  make_way(to);
  snprintf(part, sizeof part, "%s.part", to);
  snprintf(from, sizeof from, "/proc/self/fd/%d", fd);
  int in = open(from, O_RDONLY | O_CLOEXEC), out = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  while (in >= 0 && out >= 0 && sendfile(out, in, NULL, 1 << 20) > 0) {
  }
  if (in >= 0) close(in);
  if (out >= 0) close(out);
  REAL(rename)(part, to);
  pthread_mutex_unlock(&shadow_lock);
}

static int synced(int fd, const char *name, int (*real)(int)) {
  const char *lies = getenv("DISK_LIES");
  if (name && lies && strstr(name, lies)) return 0;
  int result = real(fd);
  if (name && !result) keep(fd, name);
  return result;
}

int fsync(int fd) {
  char path[PATH_MAX];
  const char *name = name_of(fd, path);
  UNDER_FAULT("sync", name, synced(fd, name, REAL(fsync)));
}

int fdatasync(int fd) {
  char path[PATH_MAX];
  const char *name = name_of(fd, path);
  UNDER_FAULT("sync", name, synced(fd, name, REAL(fdatasync)));
}

static int keep_path(const char *path, const struct stat *stat, int kind, struct FTW *at) {
  (void)stat, (void)at;
  const char *name = below_home(path), *lies = getenv("DISK_LIES");
  if (kind != FTW_F || !name || (lies && strstr(name, lies))) return 0;
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd >= 0) {
    keep(fd, name);
    close(fd);
  }
  return 0;
}

/* The engine begins with one: what an earlier process wrote becomes durable before anything is built on it. */
int syncfs(int fd) {
  const char *home = getenv("DISK_HOME");
  int result = REAL(syncfs)(fd);
  if (home && !result) nftw(home, keep_path, 16, FTW_PHYS);
  return result;
}

ssize_t write(int fd, const void *bytes, size_t count) {
  char path[PATH_MAX];
  UNDER_FAULT("write", name_of(fd, path), REAL(write)(fd, bytes, count));
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
  char path[PATH_MAX];
  UNDER_FAULT("write", name_of(fd, path), REAL(writev)(fd, parts, count));
}

ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t at) {
  char path[PATH_MAX];
  UNDER_FAULT("write", name_of(fd, path), REAL(pwrite64)(fd, bytes, count, at));
}

ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t at) {
  char path[PATH_MAX];
  UNDER_FAULT("write", name_of(fd, path), REAL(pwritev64)(fd, parts, count, at));
}

/* A write that may be a sync as well: the engine's votes are written like this. */
static ssize_t written(int fd, const char *name, const struct iovec *parts, int count, off64_t at, int flags) {
  UNDER_FAULT("write", name, REAL(pwritev64v2)(fd, parts, count, at, flags));
}

static ssize_t written_through(int fd, const char *name, const struct iovec *parts, int count, off64_t at, int flags) {
  const char *lies = getenv("DISK_LIES");
  if (name && lies && strstr(name, lies)) return written(fd, name, parts, count, at, flags & ~(RWF_DSYNC | RWF_SYNC));
  ssize_t result = written(fd, name, parts, count, at, flags);
  if (name && result >= 0) keep(fd, name);
  return result;
}

ssize_t pwritev64v2(int fd, const struct iovec *parts, int count, off64_t at, int flags) {
  char path[PATH_MAX];
  const char *name = name_of(fd, path);
  if (!(flags & (RWF_DSYNC | RWF_SYNC))) return written(fd, name, parts, count, at, flags);
  UNDER_FAULT("sync", name, written_through(fd, name, parts, count, at, flags));
}

ssize_t pwritev2(int fd, const struct iovec *parts, int count, off_t at, int flags) {
  return pwritev64v2(fd, parts, count, at, flags);
}

ssize_t copy_file_range(int in, off64_t *from, int out, off64_t *to, size_t count, unsigned flags) {
  char path[PATH_MAX];
  UNDER_FAULT("write", name_of(out, path), REAL(copy_file_range)(in, from, out, to, count, flags));
}

static int renamed(int from_folder, const char *from, int to_folder, const char *to) {
  char a[PATH_MAX], b[PATH_MAX], old[PATH_MAX], new[PATH_MAX];
  const char *old_name = name_at(from_folder, from, a), *new_name = name_at(to_folder, to, b);
  int result = REAL(renameat)(from_folder, from, to_folder, to);
  if (!result && old_name && new_name && shadow_path(old_name, old) && shadow_path(new_name, new)) {
    make_way(new);
    /* What was never synced is not there afterwards, under either name. */
    if (REAL(renameat)(AT_FDCWD, old, AT_FDCWD, new)) REAL(unlink)(new);
  }
  return result;
}

int rename(const char *from, const char *to) {
  char path[PATH_MAX];
  UNDER_FAULT("rename", name_at(AT_FDCWD, to, path), renamed(AT_FDCWD, from, AT_FDCWD, to));
}

int renameat(int from_folder, const char *from, int to_folder, const char *to) {
  char path[PATH_MAX];
  UNDER_FAULT("rename", name_at(to_folder, to, path), renamed(from_folder, from, to_folder, to));
}

static int removed(int folder, const char *given, int flags) {
  char path[PATH_MAX], kept[PATH_MAX];
  const char *name = name_at(folder, given, path);
  int result = REAL(unlinkat)(folder, given, flags);
  if (!result && name && shadow_path(name, kept)) REAL(unlinkat)(AT_FDCWD, kept, flags);
  return result;
}

int unlink(const char *given) {
  char path[PATH_MAX];
  UNDER_FAULT("unlink", name_at(AT_FDCWD, given, path), removed(AT_FDCWD, given, 0));
}

int unlinkat(int folder, const char *given, int flags) {
  char path[PATH_MAX];
  UNDER_FAULT("unlink", name_at(folder, given, path), removed(folder, given, flags));
}
