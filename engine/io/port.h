/* port.h - TCP ports: to listen on, and a free one for a service on this machine.
 *
 * Ports come from below the range that the kernel gives to outgoing connections, so that none of
 * those takes the port of a service while it restarts. A service keeps its port as long as nobody
 * else has it. */
#ifndef IO_PORT_H
#define IO_PORT_H

#include <stdbool.h>

#include "base/err.h"

enum { PORT_FIRST = 20000, PORT_LAST = 31999 };

bool port_is_free(int port);

/* wanted: tried first (0: none); then from a place that key chooses. -ERR_LIMIT: all are taken. */
MUST_CHECK int port_choose(int wanted, const char *key, int *ret, struct err *err);

/* Listens on addr: "127.0.0.1:0" or "[::1]:7000", a numeric host; port 0 takes a free one. *ret_fd
 * does not block and is the caller's. -ERR_INVALID: addr is not that; -ERR_IO: taken, not ours. */
MUST_CHECK int port_listen(const char *addr, int backlog, int *ret_fd, int *ret_port,
                           struct err *err);

#endif
