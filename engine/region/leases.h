/* leases.h - who may restart a service now: at most max_moving machines of a region at a time.
 *
 * A slot belongs to (service, machine) and is a lease: it ends when the machine gives it back, when
 * its report says that it is done, or when SLOT_LEASE_MS pass without the machine asking again
 * (asking again renews it). Who finds no free slot waits in a queue, first come first served. A
 * machine that loses its link leaves the queues, but keeps its slots until they run out: it may be
 * in the middle of a restart.
 *
 *     leases_goal()   on each goal of a service: the limit, and whether it is urgent
 *     leases_ask()    -> granted, or queued
 *     leases_give()   done;  leases_drop()  its link is lost
 *     leases_step()   after each of these, and at leases_next_ms(): who has been granted a slot now;
 *                    services with an urgent goal first
 *
 * A new generation empties the service's queue (the machines ask again, under the new goal), but
 * leases stay: what moves, moves. A limit of 0 grants nothing; a lower limit takes no slot back.
 *
 * Pure: the time is an argument, ms of any steady clock. Limits: LEASES_QUEUE_MAX machines wait for
 * one service. */
#ifndef REGION_LEASES_H
#define REGION_LEASES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    SLOT_LEASE_MS = 120000,
    LEASES_QUEUE_MAX = 65536,
};

struct leases;

struct slot_grant { /* borrowed until the next call */
    const char *service, *machine;
};

struct leases *leases_new(void);
void leases_free(struct leases *s);

/* The goal of a service as of now. An older generation than the known one changes nothing. */
void leases_goal(struct leases *s, const char *service, uint64_t generation, uint64_t max_moving,
                 bool urgent);

/* True: the machine has a slot until now_ms + SLOT_LEASE_MS. False: it is queued - or it asks under
 * another generation than the goal's, or the queue is full: then it has to ask again. */
bool leases_ask(struct leases *s, const char *service, const char *machine, uint64_t generation,
                int64_t now_ms);

/* Takes up a lease that was granted before this process started; it may exceed the limit. */
void leases_restore(struct leases *s, const char *service, const char *machine, int64_t until_ms);

/* Gives slot and place in the queue back; harmless if there is none. True: there was a slot. */
bool leases_give(struct leases *s, const char *service, const char *machine);

void leases_drop(struct leases *s, const char *machine);

/* Ends leases that ran out and hands free slots to who waits. Fills at most max grants; call again
 * if it returns max. */
size_t leases_step(struct leases *s, int64_t now_ms, struct slot_grant *out, size_t max);

/* When the first lease runs out, or -1: never. */
int64_t leases_next_ms(const struct leases *s);

/* Calls fn for each lease. */
void leases_each(const struct leases *s,
                 void (*fn)(void *ctx, const char *service, const char *machine, int64_t until_ms),
                 void *ctx);

size_t leases_used(const struct leases *s, const char *service);
size_t leases_waiting(const struct leases *s, const char *service);
bool leases_holds(const struct leases *s, const char *service, const char *machine);

#endif
