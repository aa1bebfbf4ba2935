/* slots.h - who may restart a service now: at most max_moving machines of a region at a time.
 *
 * A slot belongs to (service, machine) and is a lease: it ends when the machine gives it back, when
 * its report says that it is done, or when SLOT_LEASE_MS pass without the machine asking again
 * (asking again renews it). Who finds no free slot waits in a queue, first come first served. A
 * machine that loses its link leaves the queues, but keeps its slots until they run out: it may be
 * in the middle of a restart.
 *
 *     slots_goal()   on each goal of a service: the limit, and whether it is urgent
 *     slots_ask()    -> granted, or queued
 *     slots_give()   done;  slots_drop()  its link is lost
 *     slots_step()   after each of these, and at slots_next_ms(): who has been granted a slot now;
 *                    services with an urgent goal first
 *
 * A new generation empties the service's queue (the machines ask again, under the new goal), but
 * leases stay: what moves, moves. A limit of 0 grants nothing; a lower limit takes no slot back.
 *
 * Pure: the time is an argument, ms of any steady clock. Limits: SLOTS_QUEUE_MAX machines wait for
 * one service. */
#ifndef REGION_SLOTS_H
#define REGION_SLOTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    SLOT_LEASE_MS = 120000,
    SLOTS_QUEUE_MAX = 65536,
};

struct slots;

struct slot_grant { /* borrowed until the next call */
    const char *service, *machine;
};

struct slots *slots_new(void);
void slots_free(struct slots *s);

/* The goal of a service as of now. An older generation than the known one changes nothing. */
void slots_goal(struct slots *s, const char *service, uint64_t generation, uint64_t max_moving,
                bool urgent);

/* True: the machine has a slot until now_ms + SLOT_LEASE_MS. False: it is queued - or it asks under
 * another generation than the goal's, or the queue is full: then it has to ask again. */
bool slots_ask(struct slots *s, const char *service, const char *machine, uint64_t generation,
               int64_t now_ms);

/* Takes up a lease that was granted before this process started; it may exceed the limit. */
void slots_restore(struct slots *s, const char *service, const char *machine, int64_t until_ms);

/* Gives slot and place in the queue back; harmless if there is none. True: there was a slot. */
bool slots_give(struct slots *s, const char *service, const char *machine);

void slots_drop(struct slots *s, const char *machine);

/* Ends leases that ran out and hands free slots to who waits. Fills at most max grants; call again
 * if it returns max. */
size_t slots_step(struct slots *s, int64_t now_ms, struct slot_grant *out, size_t max);

/* When the first lease runs out, or -1: never. */
int64_t slots_next_ms(const struct slots *s);

/* Calls fn for each lease. */
void slots_each(const struct slots *s,
                void (*fn)(void *ctx, const char *service, const char *machine, int64_t until_ms),
                void *ctx);

size_t slots_used(const struct slots *s, const char *service);
size_t slots_waiting(const struct slots *s, const char *service);
bool slots_holds(const struct slots *s, const char *service, const char *machine);

#endif
