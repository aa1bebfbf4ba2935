/* engine: finds the verb and runs it. */
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "cli/cli.h"
#include "cli/flags.h"

#define ENGINE_VERSION "0.1.0"

static const struct {
    const char *name;
    int (*fn)(int argc, char **argv);
    const char *about; /* NULL: not listed */
} verbs[] = {
    { "run", cli_run, "deploy what a policy describes, and follow it to its end" },
    { "policy", cli_policy, "new, check, test, eval, doc: write a policy" },
    { "status", cli_status, "one deployment as it is now, or the latest ones" },
    { "logs", cli_logs, "the log of a build" },
    { "events", cli_events, "what happened, oldest first" },
    { "queue", cli_queue, "the build jobs" },
    { "regions", cli_regions, "the regions and their machines" },
    { "abort", cli_act, "end a deployment where it is" },
    { "pause", cli_act, "open no further wave" },
    { "resume", cli_act, "go on after a pause or a hold" },
    { "promote", cli_act, "say go in the policy's place" },
    { "rollback", cli_act, "bring the moved machines back" },
    { "skip-bake", cli_act, "do not wait for the open wave to bake" },
    { "artifact", cli_artifact, "ls, show, verify, gc, export: the blob store" },
    { "delta", cli_delta, "make, apply, info: what changed, as a pack" },
    { "keys", cli_keys, "make a cluster's keys; issue identities" },
    { "serve", cli_serve, "the control plane" },
    { "worker", cli_worker, "builds what is queued" },
    { "region", cli_region, "a region node" },
    { "seed", cli_seed, "give a file or directory to a swarm of its own" },
    { "simulate-swarm", cli_simulate_swarm, "how long a swarm of many machines takes" },
    { "policy-host", cli_policy_host, NULL },
};

static int usage(FILE *out)
{
    fprintf(out, "usage: engine VERB [options]\n\n");
    for (size_t i = 0; i < COUNT_OF(verbs); i++)
        if (verbs[i].about != NULL)
            fprintf(out, "  %-14s %s\n", verbs[i].name, verbs[i].about);
    fprintf(out,
            "\n`engine VERB --help` tells the rest. The agent of a machine is engine-agent.\n");
    return out == stdout ? EXIT_OK : EXIT_USAGE;
}

/* How many of the first letters agree: enough to guess what was meant. */
static size_t alike(const char *a, const char *b)
{
    size_t n = 0;

    while (a[n] != '\0' && a[n] == b[n])
        n++;
    return n;
}

static int unknown(const char *name)
{
    size_t best = 0;

    for (size_t i = 1; i < COUNT_OF(verbs); i++)
        if (alike(verbs[i].name, name) > alike(verbs[best].name, name))
            best = i;
    fprintf(stderr, "engine: there is no verb '%s'", name);
    if (alike(verbs[best].name, name) > 0)
        fprintf(stderr, "; did you mean '%s'?", verbs[best].name);
    fprintf(stderr, "\n");
    return EXIT_USAGE;
}

int main(int argc, char **argv)
{
    log_setup("engine", 2);
    if (argc < 2)
        return usage(stderr);
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
        strcmp(argv[1], "help") == 0)
        return usage(stdout);
    if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0) {
        puts("engine " ENGINE_VERSION);
        return EXIT_OK;
    }
    for (size_t i = 0; i < COUNT_OF(verbs); i++)
        if (strcmp(verbs[i].name, argv[1]) == 0)
            return verbs[i].fn(argc - 1, argv + 1);
    return unknown(argv[1]);
}
