/* api_artifacts.c - which artifacts are needed, and forgetting those that are not. */
#include "control/api_call.h"
#include "control/reach.h"

int route_artifacts(struct call *c, struct err *err)
{
    json_t *answer = NULL;
    int r = reach_load(c->db, call_number(c, "keep", REACH_KEEP, 0, REACH_KEEP_MAX), &answer, err);

    if (r == 0)
        call_answer(c, MHD_HTTP_OK, answer);
    return r;
}

int route_artifacts_forget(struct call *c, struct err *err)
{
    json_t *forgotten = NULL;
    int64_t keep = REACH_KEEP;
    int r = json_is_object(c->json) ? 0 : err_set(err, ERR_INVALID, "the body is not an object");

    if (r == 0)
        r = json_get_int_or(c->json, "keep", 0, REACH_KEEP_MAX, REACH_KEEP, &keep, err);
    if (r == 0)
        r = reach_forget(c->db, json_object_get(c->json, "digests"), keep, buf_str(&c->who),
                         &forgotten, err);
    if (r == 0)
        call_answer(c, MHD_HTTP_OK, json_pack("{s:o}", "forgotten", forgotten));
    return r;
}
