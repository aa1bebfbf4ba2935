/* engine policy - for those who write policies: new, check, test, eval, doc. */
#include "cli/policy.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/mem.h"
#include "cli/cli.h"
#include "cli/flags.h"
#include "policy/policy.h"

/* What `check` asks with, where a policy has functions: an invented deployment to 12 machines. */
#define SAMPLE_COMMON                                                                     \
    "\"deployment\":{\"id\":\"d-check\",\"service\":\"check\",\"commit\":"                \
    "\"0123456789012345678901234567890123456789\",\"previous\":null,\"actor\":\"check\"," \
    "\"reason\":\"check\"},\"params\":{},\"memo\":{},\"now\":1800000000"
#define SAMPLE_REGIONS                                                               \
    "[{\"name\":\"asia\",\"total\":4,\"reachable\":4},{\"name\":\"eu\",\"total\":4," \
    "\"reachable\":4},{\"name\":\"us\",\"total\":4,\"reachable\":4}]"
#define SAMPLE_REPLICA \
    "{\"verified\":true,\"state\":\"verified\",\"bytes\":1000,\"total\":1000,\"machines\":4}"
#define SAMPLE_COUNTS                                                                       \
    "\"total\":4,\"reachable\":4,\"offline\":0,\"staged\":4,\"activated\":4,\"healthy\":3," \
    "\"bad\":0,\"unknown\":1"

static const struct question {
    const char *name;
    enum policy_question id; /* POLICY_NONE: the data */
    const char *sample;
} questions[] = {
    { "data", POLICY_NONE, NULL },
    { "build", POLICY_BUILD,
      "{\"service\":\"check\",\"commit\":\"0123456789012345678901234567890123456789\",\"ref\":"
      "\"HEAD\",\"params\":{}}" },
    { "replicate", POLICY_REPLICATE,
      "{\"total\":3,\"verified\":3,\"failed\":0,\"elapsed\":10,\"region\":{\"asia\":" SAMPLE_REPLICA
      ",\"eu\":" SAMPLE_REPLICA ",\"us\":" SAMPLE_REPLICA "}," SAMPLE_COMMON "}" },
    { "waves", POLICY_WAVES,
      "{\"total\":12,\"reachable\":12,\"regions\":" SAMPLE_REGIONS
      ",\"regions_by_size\":" SAMPLE_REGIONS "," SAMPLE_COMMON "}" },
    { "advance", POLICY_ADVANCE,
      "{\"wave\":{\"index\":1,\"name\":\"check\",\"bake\":10,\"baked\":0,\"max_failed\":0,"
      "\"moved\":4," SAMPLE_COUNTS "},\"waves\":3,\"fleet\":{" SAMPLE_COUNTS "},\"elapsed\":60,"
      "\"deadline_left\":1740,\"since_progress\":1,\"emergency\":false," SAMPLE_COMMON "}" },
};

enum { STDIN_MAX_BYTES = POLICY_INPUT_MAX_BYTES };

static const char engine_path[] = "/proc/self/exe";

/* Whatever a policy does wrong, running too long included, is the policy's fault. */
static int fail_policy(const struct globals *g, struct err *err)
{
    if (err->code == ERR_TIMEOUT)
        err->code = ERR_POLICY;
    return fail(g, err);
}

static int ask(struct policy_host *h, const struct bundle *b, const struct question *q,
               const json_t *input, json_t **ret, struct err *err)
{
    if (q->id == POLICY_NONE)
        return policy_data(h, b, ret, err);
    return policy_call(h, b, q->id, input, ret, err);
}

static int read_stdin(struct buf *out, struct err *err)
{
    char chunk[8192];
    for (size_t n; (n = fread(chunk, 1, sizeof(chunk), stdin)) > 0;) {
        if (out->len + n > STDIN_MAX_BYTES)
            return err_set(err, ERR_LIMIT, "standard input: longer than 1 MiB");
        buf_append(out, chunk, n);
    }
    return 0;
}

static int eval_file(const char *path, const struct question *q, struct err *err)
{
    AUTO_BUF text = BUF_INIT;
    AUTO_JSON *input = NULL, *answer = NULL;
    struct bundle *b = NULL;
    struct policy_host *h = NULL;
    int rc = 0;
    if (q->id != POLICY_NONE && (rc = read_stdin(&text, err)) == 0)
        rc = json_parse(&input, buf_str(&text), text.len, err);
    if (rc < 0)
        return err_wrap(err, "input");
    rc = bundle_load(&b, path, err);
    if (rc == 0)
        rc = policy_host_new(&h, engine_path, err);
    if (rc == 0)
        rc = ask(h, b, q, input, &answer, err);
    policy_host_free(h);
    bundle_free(b);
    if (rc < 0)
        return rc;
    AUTO_FREE char *out = json_text(answer);
    puts(out);
    return 0;
}

static int verb_eval(int argc, char **argv)
{
    static const struct verb verb = { "policy eval FILE.lua QUESTION",
                                      "Asks a policy: data, build, replicate, waves or advance. "
                                      "The input is JSON on standard input "
                                      "(none for data), as engine/policy/policy.h and `engine "
                                      "policy doc` describe it; the checked "
                                      "answer goes to standard output.",
                                      NULL,
                                      0,
                                      2,
                                      2 };
    struct globals g;
    struct err err = ERR_INIT;
    int operands, code;
    if (flags_parse(&verb, &g, argc, argv, &operands, &code) != 0)
        return code;
    for (size_t i = 0; i < COUNT_OF(questions); i++) {
        if (strcmp(questions[i].name, argv[1]) != 0)
            continue;
        return eval_file(argv[0], &questions[i], &err) < 0 ? fail_policy(&g, &err) : EXIT_OK;
    }
    err_set(&err, ERR_INVALID, "no question %s: data, build, replicate, waves or advance", argv[1]);
    return fail(&g, &err);
}

static void print_answer(const struct question *q, const json_t *answer)
{
    size_t i;
    json_t *item;
    printf("  %-10s", q->name);
    if (q->id == POLICY_BUILD) {
        json_array_foreach(json_object_get(answer, "steps"), i, item)
            printf("%s%s", i ? ", " : "", json_string_value(json_object_get(item, "name")));
        printf(" (%zu output%s)\n", json_object_size(json_object_get(answer, "outputs")),
               json_object_size(json_object_get(answer, "outputs")) == 1 ? "" : "s");
    } else if (q->id == POLICY_WAVES) {
        json_array_foreach(answer, i, item)
            printf("%s%s", i ? ", " : "", json_string_value(json_object_get(item, "name")));
        printf("\n");
    } else {
        printf("%s %s\n", json_string_value(json_object_get(answer, "action")),
               json_string_value(json_object_get(answer, "reason")));
    }
}

/* Params given with --set reach every sample. */
static json_t *sample_of(const struct question *q, const struct texts *params)
{
    json_t *input = json_loads(q->sample, 0, NULL);
    for (int i = 0; i < params->count; i++) {
        const char *text = params->items[i], *eq = strchr(text, '=');
        AUTO_FREE char *key = mem_strndup(text, eq ? (size_t)(eq - text) : strlen(text));
        json_object_set_new(json_object_get(input, "params"), key, json_string(eq ? eq + 1 : ""));
    }
    return input;
}

static int check_file(struct policy_host *h, const char *path, const struct texts *params,
                      bool quiet, struct err *err)
{
    struct bundle *b;
    json_t *data;
    int rc = bundle_load(&b, path, err);
    if (rc < 0)
        return rc;
    rc = policy_data(h, b, &data, err);
    if (rc == 0 && !quiet)
        printf("%s: service %s\n", path, json_string_value(json_object_get(data, "service")));
    json_decref(rc == 0 ? data : NULL);
    for (size_t i = 1; rc == 0 && i < COUNT_OF(questions); i++) {
        AUTO_JSON *input = sample_of(&questions[i], params), *answer = NULL;
        rc = ask(h, b, &questions[i], input, &answer, err);
        if (rc < 0 && questions[i].id == POLICY_REPLICATE) {
            /* It may rightly ask for a region of its own by name, which the sample cannot know. */
            fprintf(stderr, "engine: note: %s (asked with the regions asia, eu and us)\n",
                    err->text);
            rc = 0;
        } else if (rc == 0 && !quiet) {
            print_answer(&questions[i], answer);
        }
    }
    bundle_free(b);
    return rc;
}

static int verb_check(int argc, char **argv)
{
    struct texts params = { NULL, 0, 0 };
    const struct flag flags[] = {
        { "set", FLAG_LIST, &params, "K=V", "a parameter of the policy; repeatable" },
    };
    const struct verb verb = {
        "policy check FILE.lua…",
        "Checks every field of a policy, and asks each of its functions about "
        "an invented fleet of 12 machines. Exit code 3 if one is wrong.",
        flags,
        (int)COUNT_OF(flags),
        1,
        1000
    };
    struct globals g;
    struct err err = ERR_INIT;
    struct policy_host *h;
    int operands, code;
    if (flags_parse(&verb, &g, argc, argv, &operands, &code) != 0)
        return code;
    if (policy_host_new(&h, engine_path, &err) < 0)
        return fail(&g, &err);
    code = EXIT_OK;
    for (int i = 0; i < operands; i++)
        if (check_file(h, argv[i], &params, g.json, &err) < 0)
            code = fail_policy(&g, &err);
    policy_host_free(h);
    free(params.items);
    if (code == EXIT_OK && g.json)
        puts("{\"v\":1,\"ok\":true}");
    return code;
}

int cli_policy(int argc, char **argv)
{
    static const struct {
        const char *name, *about;
        int (*run)(int argc, char **argv);
    } verbs[] = {
        { "new", "write a policy, its spec and .luacheckrc", policy_verb_new },
        { "check", "check every field of a policy", verb_check },
        { "test", "run specs", policy_verb_test },
        { "eval", "ask a policy one question", verb_eval },
        { "doc", "print what a policy sees and returns", policy_verb_doc },
    };
    for (size_t i = 0; argc > 1 && i < COUNT_OF(verbs); i++)
        if (strcmp(argv[1], verbs[i].name) == 0)
            return verbs[i].run(argc - 1, argv + 1);
    bool help = argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0);
    FILE *out = help ? stdout : stderr;
    if (argc > 1 && !help)
        fprintf(out, "engine: no verb policy %s\n", argv[1]);
    fprintf(out, "usage: engine policy VERB …\n\n");
    for (size_t i = 0; i < COUNT_OF(verbs); i++)
        fprintf(out, "  %-8s %s\n", verbs[i].name, verbs[i].about);
    return help ? EXIT_OK : EXIT_USAGE;
}

int cli_policy_host(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    /* Nothing is left to tidy up, and the exit handlers of libraries may need what it gave up. */
    _exit(policy_host_main());
}
