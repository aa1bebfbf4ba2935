/* log.h - one line per fact, to standard error: "2026-11-22T08:00:00.123Z warn region/eu: text".
 *
 * The only mutable global of the program. Each failure is logged once, at the top, by whoever
 * decides what to do about it. Thread-safe: a line is one write(2). */
#ifndef BASE_LOG_H
#define BASE_LOG_H

enum log_level { LOG_NONE = 0, LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

/* who: e.g. "agent/m-01", copied (at most 63 bytes). The level is LOG_INFO unless the environment's
 * ENGINE_LOG says error, warn, info or debug. fd: where lines go (2 at the start). */
void log_setup(const char *who, int fd);
void log_at(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...) log_at(LOG_ERROR, __VA_ARGS__)
#define log_warn(...) log_at(LOG_WARN, __VA_ARGS__)
#define log_info(...) log_at(LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_at(LOG_DEBUG, __VA_ARGS__)

#endif
