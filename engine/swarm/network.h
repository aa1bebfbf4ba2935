/* network.h - how long transfers take that share links: a model of many TCP streams. Pure.
 *
 * Every host has an uplink and a downlink. Transfers that share one get equal parts of it, as far as
 * their other end lets them; what one cannot use the others get (max-min fairness). A change at one
 * transfer is worked out at its two ends only: the ends' partners learn of it when something happens
 * there. So rates are those of max-min fairness or a little below, and never more than a link
 * carries: on each link the grants sum up to its rate, and a transfer runs at the smaller of its two.
 *
 *     network_host(n, host, up, down)                       rates in bytes a second
 *     t = network_start(n, from, to, bytes, now, &event)    event comes from the calendar when the
 *                                                           last byte is sent; event.d is set to t
 *     network_finish(n, t, now)                             then; or network_break() before
 *
 * Latency and what machines do with the bytes are the user's business. O(degree) a call.
 *
 * Source: max-min fairness by water filling, Bertsekas and Gallager, "Data Networks", section 6.5. */
#ifndef SWARM_NETWORK_H
#define SWARM_NETWORK_H

#include "swarm/calendar.h"

struct network;

/* The calendar is borrowed. Hosts have no rate at first. */
struct network *network_new(size_t nhosts, struct calendar *calendar);
void network_free(struct network *n);

void network_host(struct network *n, uint32_t host, double up_bytes, double down_bytes);

uint32_t network_start(struct network *n, uint32_t from, uint32_t to, double bytes, int64_t now_ns,
                       const struct calendar_event *event);
/* Its event has come: all bytes were carried. */
void network_finish(struct network *n, uint32_t transfer, int64_t now_ns);
/* Breaks it off: its event does not come. */
void network_break(struct network *n, uint32_t transfer, int64_t now_ns);

double network_rate(const struct network *n, uint32_t transfer); /* bytes a second, now */

enum network_side { NETWORK_UP = 0, NETWORK_DOWN = 1 };
/* Whether its transfers leave next to nothing of it. */
bool network_is_full(const struct network *n, uint32_t host, enum network_side side);

/* Until the last event of each transfer. */
double network_sent_bytes(const struct network *n, uint32_t host);
double network_received_bytes(const struct network *n, uint32_t host);

#endif
