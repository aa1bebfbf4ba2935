/* view.h - a deployment as people, CI and the page see it: one JSON object.
 *
 * {"v":1,"id","service","commit","ref","state","reason","waiting_for","created","finished",…}: times
 * are ms since 1970, seconds have a fraction; "exit" is null while it lives. */
#ifndef CONTROL_VIEW_H
#define CONTROL_VIEW_H

#include "control/record.h"

enum { VIEW_LOG_BYTES = 4096 }; /* the end of a failed build's log */

/* Gives *ret. */
MUST_CHECK int view_load(struct db *d, const char *id, json_t **ret, struct err *err);
/* From what is loaded already; d is for the log of a failed build. Gives. */
json_t *view_build(struct db *d, const struct record *r, const struct world *w);
json_t *job_view(const struct job *j); /* gives */

#endif
