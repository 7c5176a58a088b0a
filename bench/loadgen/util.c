#include "loadgen.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

static int option_count;
static char **option_list;

void die(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fputs("loadgen: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(2);
}

void options(int argc, char **argv) {
    for (int i = 0; i < argc; i++)
        if (!strchr(argv[i], '='))
            die("an option is key=value, not '%s'", argv[i]);
    option_count = argc;
    option_list = argv;
}

const char *text_option(const char *key, const char *fallback) {
    size_t n = strlen(key);
    for (int i = 0; i < option_count; i++)
        if (!strncmp(option_list[i], key, n) && option_list[i][n] == '=')
            return option_list[i] + n + 1;
    return fallback;
}

double number_option(const char *key, double fallback) {
    const char *value = text_option(key, NULL);
    return value ? atof(value) : fallback;
}

uint64_t nanoseconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

double own_cpu(void) {
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

double server_cpu(void) {
    char path[64], line[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)number_option("pid", 0));
    FILE *file = fopen(path, "r");
    if (!file)
        return 0;
    size_t n = fread(line, 1, sizeof line - 1, file);
    fclose(file);
    line[n] = 0;
    char *fields = strrchr(line, ')'); /* the command may hold spaces */
    unsigned long user = 0, system = 0;
    if (fields)
        sscanf(fields + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system);
    return (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
}

void *allocate(size_t count, size_t size) {
    void *result = calloc(count ? count : 1, size);
    if (!result)
        die("out of memory");
    return result;
}

void bytes_add(struct bytes *b, const void *data, size_t n) {
    if (b->len + n > b->cap) {
        size_t cap = b->cap ? b->cap : 64;
        while (cap < b->len + n)
            cap *= 2;
        b->at = realloc(b->at, cap);
        if (!b->at)
            die("out of memory");
        b->cap = cap;
    }
    if (n)
        memcpy(b->at + b->len, data, n);
    b->len += n;
}

void bytes_byte(struct bytes *b, uint8_t value) {
    bytes_add(b, &value, 1);
}

void bytes_uint(struct bytes *b, uint64_t value) {
    for (; value > 0x7f; value >>= 7)
        bytes_byte(b, (uint8_t)(value | 0x80));
    bytes_byte(b, (uint8_t)value);
}

struct bytes file_read(const char *path) {
    struct bytes result = {0};
    uint8_t part[65536];
    FILE *file = fopen(path, "rb");
    if (!file)
        die("cannot read %s", path);
    for (size_t n; (n = fread(part, 1, sizeof part, file)) > 0;)
        bytes_add(&result, part, n);
    fclose(file);
    return result;
}
