/* deploy_command.c - what a person may ask of a deployment. Commands never need the policy: they work
 * while it is broken. */
#include <string.h>

#include "base/mem.h"
#include "rollout/deploy_inner.h"

static const char *const verb_names[] = { "none",    "abort",    "pause",    "resume",
                                          "promote", "rollback", "skip-bake" };
const char *deploy_verb_name(enum deploy_verb v)
{
    return (size_t)v < COUNT_OF(verb_names) ? verb_names[v] : "none";
}

bool deploy_verb_parse(enum deploy_verb *ret, const char *name)
{
    for (size_t i = 1; i < COUNT_OF(verb_names); i++) {
        if (strcmp(verb_names[i], name) == 0) {
            *ret = (enum deploy_verb)i;
            return true;
        }
    }
    return false;
}

bool deploy_allows(const struct deploy *d, enum deploy_verb verb, const char **ret_why)
{
    enum deploy_state at = d->state == DEPLOY_HELD ? d->held_from : d->state;

    *ret_why = "it has ended";
    if (deploy_state_is_final(d->state))
        return false;
    switch (verb) {
    case DEPLOY_ABORT:
        return true;
    case DEPLOY_PAUSE:
        *ret_why = "it is not replicating, rolling or rolling back";
        return d->state == DEPLOY_REPLICATING || d->state == DEPLOY_ROLLING ||
               d->state == DEPLOY_ROLLING_BACK;
    case DEPLOY_RESUME:
        *ret_why = "it is not held";
        return d->state == DEPLOY_HELD;
    case DEPLOY_PROMOTE:
        *ret_why = "there is no gate or wave to pass";
        return at == DEPLOY_REPLICATING || at == DEPLOY_ROLLING;
    case DEPLOY_ROLLBACK:
        *ret_why = "no machine has moved (abort it instead)";
        return d->plan != NULL && at == DEPLOY_ROLLING;
    case DEPLOY_SKIP_BAKE:
        *ret_why = "no wave is open";
        return at == DEPLOY_ROLLING && d->wave_open;
    case DEPLOY_VERB_NONE:
        break;
    }
    *ret_why = "there is no such act";
    return false;
}

static void resume(struct step *s, const char *who)
{
    struct deploy *d = s->d;

    /* A person who lets it go on after the deadline grants it anew. */
    if (deploy_elapsed_ms(d, s->in->now_ms) >= deploy_deadline_ms(d))
        d->deadline_extra_ms += data_ms(d, "deadline", 1800);
    end_hold(s);
    if (d->held_from == DEPLOY_ROLLING_BACK)
        d->rollback_ms = s->in->now_ms;
    d->phase_ms = s->in->now_ms;
    d->progress_ms = s->in->now_ms;
    d->silent_ms = 0;
    d->ask_again_ms = 0;
    enter(s, d->held_from, who);
}

void obey_command(struct step *s)
{
    struct deploy *d = s->d;
    const struct deploy_input *in = s->in;
    const char *why = NULL;
    AUTO_BUF who = BUF_INIT;

    if (!deploy_allows(d, in->command, &why)) {
        s->out->refused = mem_printf("cannot %s: %s", deploy_verb_name(in->command), why);
        return;
    }
    buf_printf(&who, "%s by %s%s%s", deploy_verb_name(in->command), in->command_actor,
               in->command_reason[0] == '\0' ? "" : ": ", in->command_reason);
    act_event(s, "command",
              json_pack("{s:s,s:s,s:s}", "verb", deploy_verb_name(in->command), "actor",
                        in->command_actor, "reason", in->command_reason),
              "%s", buf_str(&who));
    if (in->command == DEPLOY_ABORT)
        finish(s, DEPLOY_ABORTED, "%s", buf_str(&who));
    else if (in->command == DEPLOY_PAUSE)
        hold(s, true, "%s", buf_str(&who));
    else if (in->command == DEPLOY_ROLLBACK)
        start_rollback(s, true, buf_str(&who));
    else if (in->command == DEPLOY_SKIP_BAKE)
        d->skip_bake = true;
    if (in->command == DEPLOY_PROMOTE)
        d->promoted = true;
    if (d->state == DEPLOY_HELD && in->command != DEPLOY_PAUSE)
        resume(s, buf_str(&who));
}
