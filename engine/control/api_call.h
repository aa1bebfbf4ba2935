/* api_call.h - one HTTP request, as the routes see it; private to the API's files. */
#ifndef CONTROL_API_CALL_H
#define CONTROL_API_CALL_H

#include <microhttpd.h>

#include "base/list.h"
#include "control/api.h"
#include "control/auth.h"
#include "wire/json.h"

struct api_host; /* the policy host with its lock */

struct call {
    struct api *api;
    struct MHD_Connection *connection;
    char *method, *path;
    struct buf body;
    bool too_large;

    struct db *db; /* while a route runs */
    enum role role;
    struct buf who; /* the token's name */
    char *args[2];  /* what the pattern's stars took */
    json_t *json;   /* the body, if there is one */

    /* the answer */
    int status;
    struct buf out;
    const char *type;
    char *header_offset, *header_status; /* of logs */

    /* waiting: the route is called again until it no longer asks for that */
    bool wait;
    int64_t started_ms;
    char *seen;      /* the view when it began */
    int64_t command; /* row that it waits for */
    struct list node;
};

typedef int api_route(struct call *c, struct err *err);

struct route {
    const char *method, *pattern; /* "*" is one path segment */
    enum role role;               /* ROLE_NOBODY: no token is needed */
    api_route *run;
};

extern const struct route api_routes[]; /* ends with method == NULL */

/* Answers with that value (takes it). */
void call_answer(struct call *c, int status, json_t *value);
void call_answer_text(struct call *c, int status, const char *type, const char *text);
int64_t call_number(const struct call *c, const char *key, int64_t def, int64_t min, int64_t max);
const char *call_query(const struct call *c, const char *key); /* or NULL */
/* The policy host of the API, for one caller at a time. */
struct policy_host *api_host_take(struct api *a);
void api_host_give(struct api *a);
const struct api_options *api_options_of(const struct api *a);

/* api_deploy.c */
api_route route_trigger, route_deployments, route_deployment, route_deployment_events, route_act,
    route_decisions, route_events;
/* api_artifacts.c */
api_route route_artifacts, route_artifacts_forget;
/* api_other.c */
api_route route_live, route_ready, route_metrics, route_jobs, route_job, route_job_log,
    route_job_cancel, route_regions, route_region_forget, route_services, route_tokens, route_audit;

#endif
