/* interface.h - how fast the wire is that leads to a host, as the system knows it. */
#ifndef IO_INTERFACE_H
#define IO_INTERFACE_H

#include <stdint.h>

/* Bytes a second of the network interface that packets to this numeric address leave by. 0: not known:
 * it is no hardware (loopback, a bridge, a tunnel, most virtual machines), it is down, or its
 * driver does not say. Sends nothing. */
uint64_t interface_rate(const char *host);

#endif
