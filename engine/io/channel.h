/* channel.h - a child process that answers one request at a time, in frames: a length of 4 bytes,
 * little-endian, then as many bytes.
 *
 * The parent's side is a struct channel, the child's are channel_read() and channel_write() on its
 * descriptors 0 and 1. Limits on time are the parent's: past them the child is killed. Calls block:
 * for the work pool. A channel is used by one thread at a time.
 *
 *     channel_start(&c, argv, &err);
 *     channel_exchange(&c, &request, &answer, &limits, &err);  ... channel_stop(&c); */
#ifndef IO_CHANNEL_H
#define IO_CHANNEL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/buf.h"
#include "base/err.h"

struct channel {
    pid_t pid; /* 0: not running */
    int fd;
};

#define CHANNEL_INIT \
    {                \
        0, -1        \
    }

struct channel_limits {
    int64_t wall_ms;
    int64_t cpu_ms;   /* processor time of the child; 0: no limit */
    size_t max_bytes; /* of the answer */
};

/* Starts the program argv[0] with an empty environment, no descriptors but 0, 1 (the channel) and
 * 2, and dying with its parent. Errors as of proc_spawn(). */
MUST_CHECK int channel_start(struct channel *c, char *const *argv, struct err *err);

/* Whether the child waits for a request. False if it ended or says what nobody asked for. */
bool channel_is_idle(const struct channel *c);

/* Sends request (NULL: nothing) as a frame and receives one into answer, which is emptied first.
 * -ERR_TIMEOUT past a limit, -ERR_LIMIT for an answer that is too long, -ERR_UNREACHABLE when the
 * child is gone. After an error only channel_stop() makes sense. */
MUST_CHECK int channel_exchange(struct channel *c, const struct buf *request, struct buf *answer,
                                const struct channel_limits *limits, struct err *err);

/* Kills the child if it still runs, and collects it. Returns its wait status, -1 if unknown. */
int channel_stop(struct channel *c);

/* The child's side. False at the end of input, on an error, or for a frame over max bytes. */
bool channel_read(int fd, struct buf *frame, size_t max);
bool channel_write(int fd, const void *data, size_t len);

#endif
