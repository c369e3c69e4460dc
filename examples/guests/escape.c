/* escape WAY CANARY MARK: tries to get out of the guest's files, one way at a time, and says `GOT ...` with what it read of
 * the host's file CANARY, `DID ...` where it changed the host, or `no` with the reason. MARK is a file that does not exist. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int say(int fd) {
    char text[256];
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (n < 0) return printf("no: %s\n", strerror(errno)), 1;
    text[n] = 0;
    printf("GOT %s\n", text);
    return 0;
}

static int did(int result) {
    if (result < 0) return printf("no: %s\n", strerror(errno)), 1;
    puts("DID it");
    return 0;
}

/* The path, climbing out of some folder first. */
static const char *climbing(const char *from, const char *path) {
    static char text[8192];
    snprintf(text, sizeof text, "%s/../../../../../../../../../../..%s", from, path);
    return text;
}

/* Every descriptor that may be open, as a folder and as a file. */
static int through_descriptors(const char *canary) {
    for (int fd = 3; fd < 2000; fd++) {
        int file = openat(fd, canary + 1, O_RDONLY);
        if (file < 0) file = openat(fd, climbing(".", canary), O_RDONLY);
        if (file >= 0) return say(file);
        char text[16];
        if (read(fd, text, sizeof text) > 0) return printf("GOT descriptor %d\n", fd), 0;
    }
    puts("no: none is open");
    return 1;
}

/* Whether a folder can be listed that only a host has. */
static int listing(const char *canary) {
    char folder[4096];
    snprintf(folder, sizeof folder, "%s", canary);
    *strrchr(folder, '/') = 0;
    DIR *dir = opendir(folder);
    if (!dir) return did(-1);
    for (struct dirent *e = readdir(dir); e; e = readdir(dir)) printf("GOT %s\n", e->d_name);
    return 0;
}

/* A link to it that nothing stands at yet, swapped for a folder between look and use. */
static int swapped(const char *canary) {
    for (int i = 0; i < 1000; i++) {
        unlink("/tmp/way");
        mkdir("/tmp/way", 0700);
        int folder = open("/tmp/way", O_RDONLY | O_DIRECTORY);
        rmdir("/tmp/way");
        symlink("/", "/tmp/way");
        int file = openat(folder, canary + 1, O_RDONLY);
        if (file < 0) file = openat(AT_FDCWD, "/tmp/way/../way/", O_RDONLY | O_DIRECTORY);
        if (file >= 0 && openat(file, canary + 1, O_RDONLY) >= 0) return say(openat(file, canary + 1, O_RDONLY));
        close(folder);
    }
    return did(-1);
}

static int make(const char *path) {
    int fd = open(path, O_CREAT | O_WRONLY, 0600);
    return fd < 0 || write(fd, "mark", 4) != 4 || close(fd) ? -1 : 0;
}

/* Names that no file system should be given. */
static int bad_names(const char *canary) {
    char *name = malloc(1 << 20);
    memset(name, 'a', 1 << 20);
    name[(1 << 20) - 1] = 0;
    int fd = open(name, O_CREAT | O_WRONLY, 0600);
    if (fd >= 0) close(fd);
    fd = open("/tmp/\xff\xfe\x80", O_CREAT | O_WRONLY, 0600);
    if (fd >= 0) close(fd);
    snprintf(name, 1 << 20, "/tmp/\n\x1b[31m%s", canary);
    return say(open(name, O_RDONLY));
}

int main(int argc, char **argv) {
    if (argc < 4) return 2;
    const char *way = argv[1], *canary = argv[2], *mark = argv[3];
#define WAY(name) if (!strcmp(way, name))
    WAY("plain") return say(open(canary, O_RDONLY));
    WAY("climb") return say(open(climbing("/in", canary), O_RDONLY));
    WAY("climb-relative") return say(open(climbing(".", canary), O_RDONLY));
    WAY("proc-root") { char path[4096]; snprintf(path, sizeof path, "/proc/self/root%s", canary); return say(open(path, O_RDONLY)); }
    WAY("proc-environ") return say(open("/proc/self/environ", O_RDONLY));
    WAY("etc-passwd") return say(open("/etc/passwd", O_RDONLY));
    WAY("symlink") { symlink(canary, "/tmp/link"); return say(open("/tmp/link", O_RDONLY)); }
    WAY("symlink-climb") { symlink(climbing(".", canary), "/tmp/link"); return say(open("/tmp/link", O_RDONLY)); }
    WAY("hard-link") { link(canary, "/tmp/hard"); return say(open("/tmp/hard", O_RDONLY)); }
    WAY("steal") { if (rename(canary, "/tmp/stolen")) return did(-1); return say(open("/tmp/stolen", O_RDONLY)); }
    WAY("descriptors") return through_descriptors(canary);
    WAY("listing") return listing(canary);
    WAY("swap") return swapped(canary);
    WAY("bad-names") return bad_names(canary);
    WAY("create") return did(make(mark));
    WAY("create-climb") return did(make(climbing("/out", mark)));
    WAY("rename-over") return did(make("/tmp/mine") || rename("/tmp/mine", mark) ? -1 : 0);
    WAY("remove") return did(unlink(canary));
    WAY("truncate") return did(open(canary, O_WRONLY | O_TRUNC) < 0 ? -1 : 0);
    WAY("append") { int fd = open(canary, O_WRONLY | O_APPEND); return did(fd < 0 || write(fd, "!", 1) != 1 ? -1 : 0); }
    WAY("folder") return did(mkdir(mark, 0700));
    WAY("link-out") return did(make("/tmp/mine") || link("/tmp/mine", mark) ? -1 : 0);
    WAY("symlink-out") return did(symlink("/tmp/mine", mark));
    WAY("many-files") {
        char path[64];
        int made = 0;
        for (; made < 1000000; made++) {
            snprintf(path, sizeof path, "/tmp/f%d", made);
            if (make(path)) break;
        }
        return printf("no: %d files, then %s\n", made, strerror(errno)), 1;
    }
    WAY("sparse") {
        int fd = open("/tmp/sparse", O_CREAT | O_RDWR, 0600);
        if (fd < 0 || lseek(fd, 1LL << 40, SEEK_SET) < 0 || write(fd, "x", 1) != 1) return printf("no: %s\n", strerror(errno)), 1;
        return puts("no: a terabyte of nothing"), 1;
    }
    WAY("many-descriptors") {
        make("/tmp/one");
        int open_ones = 0;
        while (open_ones < 1000000 && open("/tmp/one", O_RDONLY) >= 0) open_ones++;
        return printf("no: %d, then %s\n", open_ones, strerror(errno)), 1;
    }
    WAY("sleep") return sleep(1000000000), puts("no: slept"), 1;
    return 2;
}
