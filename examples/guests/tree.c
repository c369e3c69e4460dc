/* tree [FOLDER]: walks an input folder (/in when not told) in name order and prints size, FNV-1a hash and path of
 * every file, then the totals. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static unsigned files, folders;
static unsigned long long total_bytes;

static void fail(const char *path) {
    fprintf(stderr, "%s: %s\n", path, strerror(errno));
    exit(1);
}

static void show_file(const char *path) {
    static unsigned char buffer[1 << 15];
    FILE *f = fopen(path, "r");
    if (!f) fail(path);
    unsigned long long hash = 0xcbf29ce484222325ull, bytes = 0;
    for (size_t n; (n = fread(buffer, 1, sizeof buffer, f)) > 0; bytes += n)
        for (size_t i = 0; i < n; i++) hash = (hash ^ buffer[i]) * 0x100000001b3ull;
    if (ferror(f)) fail(path);
    fclose(f);
    printf("%10llu %016llx %s\n", bytes, hash, path);
    files++;
    total_bytes += bytes;
}

static void walk(const char *folder) {
    struct dirent **entries;
    int count = scandir(folder, &entries, NULL, alphasort);
    if (count < 0) fail(folder);
    folders++;
    for (int i = 0; i < count; i++) {
        const char *name = entries[i]->d_name;
        if (strcmp(name, ".") != 0 && strcmp(name, "..") != 0) {
            char path[1024];
            struct stat st;
            snprintf(path, sizeof path, "%s/%s", folder, name);
            if (stat(path, &st) != 0) fail(path);
            if (S_ISDIR(st.st_mode)) walk(path);
            else show_file(path);
        }
        free(entries[i]);
    }
    free(entries);
}

int main(int argc, char **argv) {
    walk(argc > 1 ? argv[1] : "/in");
    printf("%u files in %u folders, %llu bytes\n", files, folders, total_bytes);
    return 0;
}
