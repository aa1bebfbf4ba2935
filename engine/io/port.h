/* port.h - a free TCP port for a service on this machine.
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

#endif
