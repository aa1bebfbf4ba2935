#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static struct {
    enum log_level level;
    int fd;
    char who[64];
} sink = { LOG_INFO, 2, "" };

void log_setup(const char *who, int fd)
{
    const char *level = getenv("ENGINE_LOG");

    snprintf(sink.who, sizeof(sink.who), "%s", who);
    sink.fd = fd;
    sink.level = LOG_INFO;
    if (level == NULL)
        return;
    if (strcmp(level, "error") == 0)
        sink.level = LOG_ERROR;
    else if (strcmp(level, "warn") == 0)
        sink.level = LOG_WARN;
    else if (strcmp(level, "debug") == 0)
        sink.level = LOG_DEBUG;
}

static size_t stamp(char *out, size_t size, enum log_level level)
{
    static const char *const names[] = { "", "error", "warn", "info", "debug" };
    struct timespec now;
    struct tm tm;
    char date[32];

    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &tm);
    strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", &tm);
    return (size_t)snprintf(out, size, "%s.%03ldZ %s %s: ", date, now.tv_nsec / 1000000,
                            names[level], sink.who);
}

void log_at(enum log_level level, const char *fmt, ...)
{
    char line[2048];
    size_t len;
    va_list args;

    if (level > sink.level)
        return;
    len = stamp(line, sizeof(line) - 1, level);
    va_start(args, fmt);
    vsnprintf(line + len, sizeof(line) - 1 - len, fmt, args);
    va_end(args);
    for (len = 0; line[len] != '\0'; len++)
        if (line[len] == '\n' || line[len] == '\r')
            line[len] = ' ';
    line[len++] = '\n';
    if (write(sink.fd, line, len) < 0)
        return; /* nowhere left to say it */
}
