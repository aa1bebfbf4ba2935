/* running.h - how many machines run which release of each service: a histogram that is kept up as
 * machines say what they run, and told when it has changed.
 *
 *     running_move(r, "web", &before, &now)         a machine runs another release; zero: none
 *     while (running_next(r, &runs)) …              the services that have changed since
 *
 * Pure. Memory: a name and 40 bytes a release for each service that some machine has ever had. */
#ifndef REGION_RUNNING_H
#define REGION_RUNNING_H

#include "base/map.h"
#include "wire/msg.h"

struct running {
    struct map services; /* name -> struct running_service */
    size_t nchanged;     /* how many of them have something to tell */
};

void running_release(struct running *r);

void running_move(struct running *r, const char *service, const struct hash *from,
                  const struct hash *to);
uint64_t running_count(const struct running *r, const char *service, const struct hash *release);

/* Everything is to be told again. */
void running_touch_all(struct running *r);
/* This service too, even if no machine has ever had it. */
void running_touch(struct running *r, const char *service);

/* Fills *ret with a service that has changed and takes it as told; false: none has. ret's memory is
 * the caller's: codec_release(msg_codec(MSG_RUNS), ret). Of more than RUNS_MAX releases those that
 * most machines run are told. */
bool running_next(struct running *r, struct msg_runs *ret);

#endif
