#include "cli/flags.h"

#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/mem.h"
#include "cli/terminal.h"

struct global_texts {
    const char *output, *progress, *state, *engine;
    bool no_input, help;
};

int exit_of_err(const struct err *err)
{
    switch (err->code) {
    case ERR_NONE:
        return EXIT_OK;
    case ERR_INVALID:
    case ERR_NOT_FOUND:
    case ERR_EXISTS:
    case ERR_CONFLICT:
    case ERR_LIMIT:
        return EXIT_USAGE;
    case ERR_POLICY:
        return EXIT_POLICY;
    case ERR_BUILD:
        return EXIT_BUILD_FAILED;
    case ERR_UNREACHABLE:
    case ERR_AGAIN:
    case ERR_DENIED:
    case ERR_TIMEOUT:
        return EXIT_UNREACHABLE;
    case ERR_IO:
    case ERR_NO_SPACE:
    case ERR_CORRUPT:
    case ERR_FENCED:
    case ERR_CANCELLED:
    case ERR_INTERNAL:
        break;
    }
    return EXIT_INTERNAL;
}

static bool parse_duration(const char *text, int64_t *ret_ms)
{
    static const struct {
        const char *unit;
        int64_t ms;
    } units[] = { { "ms", 1 },    { "s", 1000 },    { "", 1000 },
                  { "m", 60000 }, { "h", 3600000 }, { "d", 86400000 } };
    char *end;
    long long n = strtoll(text, &end, 10);

    if (end == text || n < 0 || n > 31536000)
        return false;
    for (size_t i = 0; i < COUNT_OF(units); i++) {
        if (strcmp(end, units[i].unit) != 0)
            continue;
        *ret_ms = n * units[i].ms;
        return true;
    }
    return false;
}

static bool parse_int(const char *text, int64_t *ret)
{
    char *end;
    long long n = strtoll(text, &end, 10);

    *ret = n;
    return end != text && *end == '\0';
}

static void take_text(struct texts *list, const char *text)
{
    VEC_GROW(list->items, list->count, list->cap);
    list->items[list->count++] = text;
}

static bool take_value(const struct flag *f, const char *text)
{
    switch (f->kind) {
    case FLAG_TEXT:
        *(const char **)f->dest = text;
        return true;
    case FLAG_INT:
        return parse_int(text, f->dest);
    case FLAG_DURATION:
        return parse_duration(text, f->dest);
    case FLAG_LIST:
        take_text(f->dest, text);
        return true;
    case FLAG_NONE:
    case FLAG_BOOL:
        break;
    }
    return false;
}

static void print_flag(const struct flag *f)
{
    char left[64];

    snprintf(left, sizeof(left), "%s%s%s%s", f->name[1] == '\0' ? "-" : "--", f->name,
             f->value == NULL ? "" : " ", f->value == NULL ? "" : f->value);
    printf("  %-26s %s\n", left, f->help);
}

static void print_help(const struct verb *v, const struct flag *globals, int nglobals)
{
    printf("usage: engine %s\n\n%s\n", v->usage, v->about);
    if (v->nflags > 0)
        printf("\noptions:\n");
    for (int i = 0; i < v->nflags; i++)
        print_flag(&v->flags[i]);
    printf("\nglobal options:\n");
    for (int i = 0; i < nglobals; i++)
        print_flag(&globals[i]);
}

static const struct flag *find_flag(const struct flag *flags, int count, const char *name,
                                    size_t len)
{
    for (int i = 0; i < count; i++)
        if (strlen(flags[i].name) == len && memcmp(flags[i].name, name, len) == 0)
            return &flags[i];
    return NULL;
}

static void print_error_json(const char *code, const char *text, int exit_code)
{
    json_t *o = json_pack("{s:i,s:{s:s,s:s},s:i}", "v", 1, "error", "code", code, "text", text,
                          "exit", exit_code);

    if (o == NULL)
        return; /* the text is no UTF-8; stderr has it */
    json_dumpf(o, stdout, JSON_COMPACT);
    putchar('\n');
    json_decref(o);
}

struct parse {
    const struct verb *verb;
    bool json; /* also of a command line that is wrong elsewhere */
};

static int usage_error(const struct parse *p, const char *fmt, ...) PRINTF_LIKE(2, 3);

static int usage_error(const struct parse *p, const char *fmt, ...)
{
    AUTO_BUF text = BUF_INIT;
    va_list args;

    va_start(args, fmt);
    buf_vprintf(&text, fmt, args);
    va_end(args);
    fprintf(stderr, "engine: %s\nusage: engine %s\n", buf_str(&text), p->verb->usage);
    if (p->json)
        print_error_json(err_name(ERR_INVALID), buf_str(&text), EXIT_USAGE);
    return 1;
}

static bool wants_json(int argc, char **argv)
{
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
        if (strcmp(argv[i], "-o=json") == 0 ||
            (strcmp(argv[i], "-o") == 0 && i + 1 < argc && strcmp(argv[i + 1], "json") == 0))
            return true;
    return false;
}

/* argv[*i] starts with a dash: takes the option and its value. */
static int take_option(const struct parse *p, const struct flag *globals, int nglobals, int argc,
                       char **argv, int *i)
{
    const char *name = argv[*i] + (argv[*i][1] == '-' ? 2 : 1);
    const char *equals = strchr(name, '=');
    size_t len = equals == NULL ? strlen(name) : (size_t)(equals - name);
    const struct flag *f = find_flag(p->verb->flags, p->verb->nflags, name, len);
    const char *value = equals == NULL ? NULL : equals + 1;

    if (f == NULL)
        f = find_flag(globals, nglobals, name, len);
    if (f == NULL)
        return usage_error(p, "there is no option '%s'", argv[*i]);
    if (f->kind == FLAG_BOOL && value != NULL)
        return usage_error(p, "--%s takes no value", f->name);
    if (f->kind == FLAG_BOOL) {
        *(bool *)f->dest = true;
        return 0;
    }
    if (value == NULL && *i + 1 < argc)
        value = argv[++*i];
    if (value == NULL || !take_value(f, value))
        return usage_error(p, "%s%s needs %s, not '%s'", f->name[1] == '\0' ? "-" : "--", f->name,
                           f->value, value == NULL ? "" : value);
    return 0;
}

static int resolve_progress(struct globals *g, const char *text)
{
    static const char *const names[] = { "auto", "tty", "plain", "json", "quiet" };
    const char *term = getenv("TERM");

    if (text == NULL)
        text = getenv("ENGINE_PROGRESS");
    if (text == NULL)
        text = "auto";
    for (int i = 0; i < (int)COUNT_OF(names); i++) {
        if (strcmp(text, names[i]) != 0)
            continue;
        g->progress = (enum progress_mode)i;
        if (i == 0) {
            bool tty = isatty(2) && term != NULL && strcmp(term, "dumb") != 0;

            g->progress = tty && getenv("CI") == NULL ? PROGRESS_TTY : PROGRESS_PLAIN;
        }
        return 0;
    }
    return -1;
}

static int resolve_globals(const struct parse *p, struct globals *g, const struct global_texts *t)
{
    const char *no_color = getenv("NO_COLOR");

    *g = (struct globals){ .no_input = t->no_input, .engine = t->engine };
    g->has_state = t->state != NULL;
    g->state_dir = t->state == NULL ? ".slipway" : t->state;
    if (g->engine == NULL)
        g->engine = getenv("ENGINE_URL");
    if (g->engine != NULL && *g->engine == '\0')
        g->engine = NULL;
    if (t->output != NULL && strcmp(t->output, "json") == 0)
        g->json = true;
    else if (t->output != NULL && strcmp(t->output, "text") != 0)
        return usage_error(p, "-o is text or json, not '%s'", t->output);
    if (resolve_progress(g, t->progress) < 0)
        return usage_error(p, "--progress is auto, tty, plain, json or quiet, not '%s'",
                           t->progress == NULL ? getenv("ENGINE_PROGRESS") : t->progress);
    g->color = g->progress == PROGRESS_TTY && (no_color == NULL || *no_color == '\0');
    return 0;
}

static int check_operands(const struct parse *p, int count, char **argv)
{
    if (count < p->verb->min_operands)
        return usage_error(p, "something is missing");
    if (count > p->verb->max_operands)
        return usage_error(p, "what is '%s' for?", argv[p->verb->max_operands]);
    return 0;
}

int flags_parse(const struct verb *v, struct globals *g, int argc, char **argv, int *ret_operands,
                int *ret_exit)
{
    const struct parse p = { v, wants_json(argc, argv) };
    struct global_texts t = { 0 };
    const struct flag globals[] = {
        { "o", FLAG_TEXT, &t.output, "text|json", "what stdout is to be" },
        { "progress", FLAG_TEXT, &t.progress, "MODE", "auto, tty, plain, json or quiet (stderr)" },
        { "no-input", FLAG_BOOL, &t.no_input, NULL, "never wait for a person" },
        { "state", FLAG_TEXT, &t.state, "DIR", "state of the local system (.slipway)" },
        { "engine", FLAG_TEXT, &t.engine, "URL", "a running control plane (or ENGINE_URL)" },
        { "help", FLAG_BOOL, &t.help, NULL, "this" },
        { "h", FLAG_BOOL, &t.help, NULL, "this" },
    };
    int count = 0, i;

    *ret_exit = EXIT_USAGE;
    for (i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--") == 0)
            break;
        if (argv[i][0] != '-' || argv[i][1] == '\0')
            argv[count++] = argv[i];
        else if (take_option(&p, globals, COUNT_OF(globals), argc, argv, &i) != 0)
            return 1;
    }
    for (i++; i < argc; i++)
        argv[count++] = argv[i];
    if (t.help) {
        print_help(v, globals, COUNT_OF(globals) - 1);
        *ret_exit = EXIT_OK;
        return 1;
    }
    *ret_operands = count;
    return resolve_globals(&p, g, &t) != 0 || check_operands(&p, count, argv) != 0;
}

int fail(const struct globals *g, const struct err *err)
{
    int code = exit_of_err(err);
    AUTO_FREE char *text = mem_strdup(err->text);

    terminal_tame(text, strlen(text));
    fprintf(stderr, "engine: %s\n", text);
    if (g->json)
        print_error_json(err_name(err->code), err->text, code);
    return code;
}

int flags_rate(const char *flag, const char *text, uint64_t *ret, struct err *err)
{
    static const char units[] = "KMGT";
    unsigned long long n;
    const char *unit;
    char *end;

    *ret = 0;
    if (text == NULL)
        return 0;
    n = strtoull(text, &end, 10);
    unit = *end == '\0' ? NULL : strchr(units, *end);
    if (end == text || n == 0 || n > 1u << 30 || (*end != '\0' && (unit == NULL || end[1] != '\0')))
        return err_set(err, ERR_INVALID, "%s %s: not a number of bytes, as 50M", flag, text);
    *ret = (uint64_t)n << (unit == NULL ? 0 : 10 * (unit - units + 1));
    return 0;
}
