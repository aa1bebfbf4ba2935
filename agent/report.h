/* report.h - what is true of each service, told to the region node: the latest, once a link.
 *
 * A report is a level, not an event: reports_offer() takes the truth of now, and it is sent if it
 * differs from what this link has been told. After a reconnect everything is told again. At most
 * one report a service waits; an older one that was never sent is worth nothing. */
#ifndef AGENT_REPORT_H
#define AGENT_REPORT_H

#include "wire/msg.h"

struct reports;

/* send: as link_send(); < 0 keeps the report for reports_flush(). */
void reports_new(struct reports **ret,
                 int (*send)(void *ctx, enum msg_type type, const void *msg, struct err *err),
                 void *ctx);
void reports_free(struct reports *r);

/* Copies. at_ms alone does not make a difference. */
void reports_offer(struct reports *r, const struct msg_report *report);
void reports_forget(struct reports *r, const char *service);
void reports_flush(struct reports *r);  /* the link has room again */
void reports_repeat(struct reports *r); /* a new link: everything is to be told */

#endif
