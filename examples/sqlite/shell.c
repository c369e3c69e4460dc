/* shell: a small front for SQLite as a task of its own.
 *
 *   sqlite FOLDER 'SELECT ...'      (without SQL: reads it from standard input)
 *
 * Every FOLDER/name.csv becomes a table `name` in memory, its columns named by the first line in small letters with
 * underscores. A column that holds nothing but numbers is stored as numbers; an empty field is NULL. Every FOLDER/name.db
 * is attached, read-only, as the schema `name`. Then the statements run in order, and what they select is printed as CSV
 * with a header line. `VACUUM INTO '/out/name.db'` keeps the imported tables as a database.
 *
 * Exit code 1 and a line on standard error when a file or a statement is wrong.
 */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sqlite3.h>

static sqlite3 *db;

static void fail(const char *what, const char *why) {
    fflush(stdout);
    fprintf(stderr, "sqlite: %s: %s\n", what, why);
    exit(1);
}

static void *wanted(void *memory) {
    if (!memory) fail("memory", "there is not enough");
    return memory;
}

static char *read_all(FILE *file, const char *name) {
    size_t length = 0, room = 1 << 16;
    char *text = wanted(malloc(room));
    for (size_t n; (n = fread(text + length, 1, room - length - 1, file)) > 0;) {
        length += n;
        if (room - length < 2) text = wanted(realloc(text, room *= 2));
    }
    if (ferror(file)) fail(name, strerror(errno));
    text[length] = 0;
    return text;
}

static void run(const char *sql) {
    char *why = NULL;
    if (sqlite3_exec(db, sql, NULL, NULL, &why) != SQLITE_OK) fail(sql, why ? why : "failed");
}

/* ---- reading CSV (RFC 4180) ------------------------------------------------------------------------------------ */

typedef struct { char *at; size_t line; } reader;

/* The next field, unquoted in place; *last tells whether it ends its line. NULL at the end of the text. */
static char *next_field(reader *r, int *last) {
    if (!*r->at) return NULL;
    char *field = r->at, *to = field, *from = field;
    if (*from == '"') {
        for (from++; *from && !(*from == '"' && from[1] != '"'); *to++ = *from++)
            if (*from == '"') from++;
            else if (*from == '\n') r->line++;
        if (*from == '"') from++;
    } else {
        for (; *from && *from != ',' && *from != '\n'; *to++ = *from++) {}
        if (*from != ',' && to > field && to[-1] == '\r') to--;
    }
    if (*from == '\r') from++;
    *last = *from != ',';
    r->line += *from == '\n';
    r->at = *from ? from + 1 : from;
    *to = 0;
    return field;
}

/* Is this how a number is written, and would it be written so again? (007 and +1 are names, not numbers.) */
static int is_number(const char *s) {
    s += *s == '-';
    if (*s == '0' && isdigit((unsigned char)s[1])) return 0;
    size_t digits = strspn(s, "0123456789");
    s += digits;
    if (*s == '.') {
        size_t after = strspn(++s, "0123456789");
        digits += after, s += after;
    }
    return digits > 0 && digits < 16 && *s == 0;
}

enum { COLUMNS_MAX = 500 };

typedef struct {
    char **fields;
    size_t rows, columns;
} sheet;

/* All fields, row by row, without the header; lines of another length than the header are refused. */
static sheet read_sheet(char *text, const char *path) {
    reader r = {text, 1};
    sheet s = {NULL, 0, 0};
    size_t count = 0, room = 0, in_line = 0;
    int last = 0;
    for (char *field; (field = next_field(&r, &last));) {
        if (count == room) s.fields = wanted(realloc(s.fields, (room = room ? room * 2 : 1024) * sizeof *s.fields));
        s.fields[count++] = field, in_line++;
        if (!last) continue;
        if (s.columns == 0) s.columns = in_line;
        if (in_line != s.columns || in_line > COLUMNS_MAX) {
            char why[80];
            snprintf(why, sizeof why, "line %zu has %zu fields, the header has %zu", r.line - 1, in_line, s.columns);
            fail(path, why);
        }
        in_line = 0;
    }
    if (count == 0) fail(path, "is empty");
    s.rows = count / s.columns - 1;
    return s;
}

/* "Cost Total $" -> "cost_total" */
static void make_name(char *name) {
    char *to = name;
    for (char *from = name; *from; from++) {
        if (isalnum((unsigned char)*from)) *to++ = (char)tolower((unsigned char)*from);
        else if (to > name && to[-1] != '_') *to++ = '_';
    }
    while (to > name && to[-1] == '_') to--;
    *to = 0;
}

static void import_csv(const char *path, const char *table) {
    FILE *file = fopen(path, "r");
    if (!file) fail(path, strerror(errno));
    char *text = read_all(file, path);
    fclose(file);
    if (strncmp(text, "\xef\xbb\xbf", 3) == 0) text += 3; /* a byte order mark */
    sheet s = read_sheet(text, path);

    sqlite3_str *create = sqlite3_str_new(db), *insert = sqlite3_str_new(db);
    sqlite3_str_appendf(create, "CREATE TABLE \"%w\" (", table);
    sqlite3_str_appendf(insert, "INSERT INTO \"%w\" VALUES (", table);
    for (size_t c = 0; c < s.columns; c++) {
        int numbers = 1;
        for (size_t r = 1; r <= s.rows && numbers; r++) {
            const char *field = s.fields[r * s.columns + c];
            numbers = !*field || is_number(field);
        }
        make_name(s.fields[c]);
        sqlite3_str_appendf(create, "%s\"%w\" %s", c ? ", " : "", s.fields[c], numbers ? "NUMERIC" : "TEXT");
        sqlite3_str_appendf(insert, c ? ", ?" : "?");
    }
    sqlite3_str_appendf(create, ")"), sqlite3_str_appendf(insert, ")");
    char *create_sql = wanted(sqlite3_str_finish(create)), *insert_sql = wanted(sqlite3_str_finish(insert));

    run("BEGIN");
    run(create_sql);
    sqlite3_stmt *row;
    if (sqlite3_prepare_v2(db, insert_sql, -1, &row, NULL) != SQLITE_OK) fail(path, sqlite3_errmsg(db));
    for (size_t r = 1; r <= s.rows; r++) {
        for (size_t c = 0; c < s.columns; c++) {
            const char *field = s.fields[r * s.columns + c];
            if (*field) sqlite3_bind_text(row, (int)c + 1, field, -1, SQLITE_STATIC);
            else sqlite3_bind_null(row, (int)c + 1);
        }
        if (sqlite3_step(row) != SQLITE_DONE) fail(path, sqlite3_errmsg(db));
        sqlite3_reset(row);
    }
    sqlite3_finalize(row);
    run("COMMIT");
}

/* ---- opening a folder ------------------------------------------------------------------------------------------ */

static void attach(const char *path, const char *schema) {
    char *sql = wanted(sqlite3_mprintf("ATTACH 'file:%q?mode=ro&immutable=1' AS \"%w\"", path, schema));
    run(sql);
    sqlite3_free(sql);
}

/* In the order of names, so that a folder means the same everywhere. */
static void open_folder(const char *folder) {
    struct dirent **entries;
    int count = scandir(folder, &entries, NULL, alphasort);
    if (count < 0) fail(folder, strerror(errno));
    for (int i = 0; i < count; i++) {
        char path[1024], name[256];
        snprintf(path, sizeof path, "%s/%s", folder, entries[i]->d_name);
        snprintf(name, sizeof name, "%s", entries[i]->d_name);
        char *dot = strrchr(name, '.');
        if (!dot || dot == name) continue;
        *dot++ = 0;
        if (strcmp(dot, "csv") == 0) make_name(name), import_csv(path, name);
        else if (strcmp(dot, "db") == 0) make_name(name), attach(path, name);
    }
}

/* ---- answers --------------------------------------------------------------------------------------------------- */

static void print_field(const char *text) {
    if (!text) return;
    if (!strpbrk(text, ",\"\r\n")) {
        fputs(text, stdout);
        return;
    }
    putchar('"');
    for (; *text; text++) {
        if (*text == '"') putchar('"');
        putchar(*text);
    }
    putchar('"');
}

static void print_answer(sqlite3_stmt *statement) {
    int columns = sqlite3_column_count(statement), result;
    for (int c = 0; c < columns; c++) {
        if (c) putchar(',');
        print_field(sqlite3_column_name(statement, c));
    }
    if (columns) putchar('\n');
    while ((result = sqlite3_step(statement)) == SQLITE_ROW) {
        for (int c = 0; c < columns; c++) {
            if (c) putchar(',');
            print_field((const char *)sqlite3_column_text(statement, c));
        }
        putchar('\n');
    }
    if (result != SQLITE_DONE) fail(sqlite3_sql(statement), sqlite3_errmsg(db));
}

static void answer(const char *sql) {
    while (*sql) {
        sqlite3_stmt *statement;
        if (sqlite3_prepare_v2(db, sql, -1, &statement, &sql) != SQLITE_OK) fail("SQL", sqlite3_errmsg(db));
        if (statement) print_answer(statement);
        sqlite3_finalize(statement);
    }
}

int main(int argc, char **argv) {
    if (argc < 2) {
        fprintf(stderr, "usage: sqlite FOLDER [SQL]...      SQLite %s\n", sqlite3_libversion());
        return 2;
    }
    if (sqlite3_open_v2(":memory:", &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_URI, NULL) != SQLITE_OK)
        fail("SQLite", sqlite3_errmsg(db));
    open_folder(argv[1]);
    for (int i = 2; i < argc; i++) answer(argv[i]);
    if (argc == 2) answer(read_all(stdin, "standard input"));
    return sqlite3_close(db) != SQLITE_OK || fflush(stdout) != 0 || ferror(stdout);
}
