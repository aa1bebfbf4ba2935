/* engine-agent fetch: flags to options. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "fetch.h"
#include "fetched.h"

enum { EXIT_FAILED = 1, EXIT_USAGE = 2 };

static const char usage[] =
    "Usage: engine-agent fetch REFERENCE --to PATH [--listen ADDR:PORT] [--limit-up RATE]\n"
    "                          [--limit-down RATE] [--seed-for DURATION] [--quiet] [-o json]\n"
    "\n"
    "Fetches what `engine seed` gives, from it and from all others who fetch it, to PATH, which "
    "must\n"
    "not be there yet. Killed and started again, it goes on.\n"
    "  --listen ADDR:PORT   where others reach this machine; 0.0.0.0:0 unless given\n"
    "  --limit-up RATE      bytes a second; K, M and G are powers of 1024\n"
    "  --limit-down RATE    likewise\n"
    "  --seed-for DURATION  give to others so long when PATH is there: 30s, 5m, 1h or forever\n"
    "  -o json              a line of JSON when PATH is there, and one at the end\n"
    "\n"
    "Exit: 0 PATH is there, 1 failed, 2 wrong usage.\n";

static int wrong(const char *what, const char *value)
{
    fprintf(stderr, "engine-agent: fetch: %s%s\nTry 'engine-agent fetch --help'.\n", what, value);
    return EXIT_USAGE;
}

static int parse_duration(const char *text, int64_t *ret_ms)
{
    static const struct {
        const char *unit;
        int64_t ms;
    } units[] = { { "", 1000 }, { "ms", 1 }, { "s", 1000 }, { "m", 60000 }, { "h", 3600000 } };
    char *end;
    long value = strtol(text, &end, 10);

    if (strcmp(text, "forever") == 0) {
        *ret_ms = FETCH_SEED_FOR_EVER;
        return 0;
    }
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        if (end == text || value < 0 || value > 1000000 || strcmp(end, units[i].unit) != 0)
            continue;
        *ret_ms = value * units[i].ms;
        return 0;
    }
    return -1;
}

static int take_flag(struct fetch_options *o, int flag, const char *value)
{
    switch (flag) {
    case 't':
        o->to = value;
        return 0;
    case 'l':
        o->listen = value;
        return 0;
    case 'u':
        return rate_parse(value, &o->up_bytes) < 0 ? wrong("not a rate: ", value) : 0;
    case 'd':
        return rate_parse(value, &o->down_bytes) < 0 ? wrong("not a rate: ", value) : 0;
    case 's':
        return parse_duration(value, &o->seed_for_ms) < 0 ? wrong("not a duration: ", value) : 0;
    case 'q':
        o->quiet = true;
        return 0;
    case 'o':
        o->json = strcmp(value, "json") == 0;
        return o->json || strcmp(value, "text") == 0 ? 0 : wrong("-o is text or json, not ", value);
    default:
        return wrong("", "");
    }
}

static int parse(struct fetch_options *o, int argc, char **argv)
{
    static const struct option options[] = {
        { "to", required_argument, NULL, 't' },
        { "listen", required_argument, NULL, 'l' },
        { "limit-up", required_argument, NULL, 'u' },
        { "limit-down", required_argument, NULL, 'd' },
        { "seed-for", required_argument, NULL, 's' },
        { "quiet", no_argument, NULL, 'q' },
        { "output", required_argument, NULL, 'o' },
        { NULL, 0, NULL, 0 },
    };
    struct err err = ERR_INIT;
    int flag, rv = 0;

    while (rv == 0 && (flag = getopt_long(argc, argv, "o:", options, NULL)) != -1)
        rv = take_flag(o, flag, optarg);
    if (rv != 0)
        return rv;
    if (optind != argc - 1 || o->to == NULL)
        return wrong("one REFERENCE and --to PATH are needed", "");
    return reference_parse(&o->reference, argv[optind], &err) < 0 ? wrong(err.text, "") : 0;
}

int fetch_command(int argc, char **argv)
{
    struct fetch_options o = { .listen = "0.0.0.0:0" };
    struct err err = ERR_INIT;
    int code;

    if (argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0))
        return fputs(usage, stdout) < 0 ? EXIT_FAILED : 0;
    code = parse(&o, argc, argv);
    if (code != 0)
        return code;
    log_setup("fetch", STDERR_FILENO);
    if (fetch_main_loop(&o, &err) == 0)
        return 0;
    fprintf(stderr, "engine-agent: %s\n", err.text);
    return EXIT_FAILED;
}
