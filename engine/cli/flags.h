/* flags.h - a verb's options as a table: parsed, and printed by --help, from the same place.
 *
 * "--name value", "--name=value", "-o value"; "--" ends the options; options and operands may be
 * mixed. Every verb also takes the global options (struct globals). */
#ifndef CLI_FLAGS_H
#define CLI_FLAGS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

/* Exit codes of every verb (DESIGN.md, section 5). */
enum exit_code {
    EXIT_OK = 0,
    EXIT_INTERNAL = 1,
    EXIT_USAGE = 2,
    EXIT_POLICY = 3,
    EXIT_ROLLED_BACK = 4,
    EXIT_NEEDS_PERSON = 5,
    EXIT_ABORTED = 6,
    EXIT_HELD = 7,
    EXIT_TIMED_OUT = 8,
    EXIT_UNREACHABLE = 9,
    EXIT_CHANGES = 10,
    EXIT_BUILD_FAILED = 11,
    EXIT_DETACHED = 130,
};

/* What a failed call means for the exit code. */
int exit_of_err(const struct err *err);

enum flag_kind {
    FLAG_NONE = 0,
    FLAG_BOOL,     /* bool */
    FLAG_TEXT,     /* const char *, borrowed from argv */
    FLAG_INT,      /* int64_t */
    FLAG_DURATION, /* int64_t, ms: "90s", "2m", "500ms", "7d", or seconds */
    FLAG_LIST,     /* struct texts: may be given more than once */
};

struct texts {
    const char **items;
    int count, cap;
};

struct flag {
    const char *name; /* without the dashes; one letter: -x */
    enum flag_kind kind;
    void *dest;
    const char *value; /* what --help calls the argument */
    const char *help;
};

enum progress_mode {
    PROGRESS_NONE = 0, /* not chosen: auto */
    PROGRESS_TTY,
    PROGRESS_PLAIN,
    PROGRESS_JSON,
    PROGRESS_QUIET,
};

struct globals {
    bool json; /* -o json */
    bool no_input;
    enum progress_mode progress; /* resolved: never NONE after flags_parse() */
    bool color;
    const char *state_dir; /* --state, default ".slipway" */
    bool has_state;        /* --state was given */
    const char *engine;    /* --engine or ENGINE_URL; NULL: local */
};

struct verb {
    const char *usage; /* "run [options] POLICY.lua" */
    const char *about; /* one paragraph */
    const struct flag *flags;
    int nflags;
    int min_operands, max_operands;
};

/* Parses argv[1…]; the operands are moved to argv[0…], their count to *ret_operands. Returns 0; or prints a
 * message (or the help) and returns 1 with the exit code in *ret_exit. */
int flags_parse(const struct verb *v, struct globals *g, int argc, char **argv, int *ret_operands,
                int *ret_exit);

/* Bytes a second, as 50M; NULL: 0, no limit. -ERR_INVALID names the flag. */
MUST_CHECK int flags_rate(const char *flag, const char *text, uint64_t *ret, struct err *err);

/* Prints "engine VERB: text" to stderr, or as {"v":1,"error":{…}} on stdout with -o json; returns the exit code. */
int fail(const struct globals *g, const struct err *err);

#endif
