/* engine-agent - the process that runs on every machine. Flags to options; the rest is agent.h. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "agent.h"
#include "base/log.h"
#include "base/mem.h"
#include "fetch.h"
#include "fetched.h"
#include "guard.h"
#include "status.h"
#include "wire/doc.h"

enum { EXIT_FAILED = 1, EXIT_USAGE = 2, VERSION_LINK = LINK_VERSION };

static const char usage[] =
    "Usage: engine-agent run --region HOST:PORT --identity DIR --root DIR --listen ADDR:PORT\n"
    "                        [--label KEY=VALUE]... [--ready-file FILE] [--parent-fd N]\n"
    "                        [--limit-up RATE] [--limit-down RATE] [--keep-packs SECONDS]\n"
    "                        [--stop-services-with-parent]\n"
    "       engine-agent status --root DIR [-o text|json]\n"
    "       engine-agent fetch REFERENCE --to PATH [--seed-for DURATION]...  (fetch --help)\n"
    "       engine-agent --help | --version\n"
    "\n"
    "run      keep this machine's services as the signed goals of its region say, until SIGTERM.\n"
    "         Services outlive the agent; the next one adopts them.\n"
    "  --region HOST:PORT    link address of the region node\n"
    "  --identity DIR        ca.pem, cert.pem, key.pem and root.pub, the pinned root key\n"
    "  --root DIR            where releases, journals, packs and logs are kept\n"
    "  --listen ADDR:PORT    where other agents reach this one; port 0 takes a free one\n"
    "  --label KEY=VALUE     say what this machine is; arch is its CPU unless given\n"
    "  --ready-file FILE     published once peers are accepted: {\"pid\":n,\"link\":port}\n"
    "  --parent-fd N         read end of a pipe; stop at its end\n"
    "  --limit-up RATE       bytes a second for pieces of packs; K, M and G are powers of 1024\n"
    "  --limit-down RATE     likewise; it is also what a fetch is measured by\n"
    "  --keep-packs SECONDS  what runs well, and nobody has wanted for that long, is not kept to "
    "be\n"
    "                        given to others; 3600 unless given\n"
    "  --stop-services-with-parent\n"
    "                        on SIGTERM and at the end of --parent-fd stop the services, too\n"
    "guard    what run starts for itself with --stop-services-with-parent; see guard.h\n"
    "status   print services, releases and verdicts from the root directory's files\n"
    "\n"
    "Exit: 0 stopped or printed, 1 failed, 2 wrong usage. ENGINE_LOG=error|warn|info|debug.\n";

static int wrong(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

static int wrong(const char *fmt, ...)
{
    va_list args;

    fprintf(stderr, "engine-agent: ");
    va_start(args, fmt);
    vfprintf(stderr, fmt, args);
    va_end(args);
    fprintf(stderr, "\nTry 'engine-agent --help'.\n");
    return EXIT_USAGE;
}

struct flags {
    struct agent_options o;
    struct label labels[AGENT_LABELS_MAX];
    char *region, *machine_arch;
    bool json;
};

static int parse_number(const char *text, long min, long max, long *ret)
{
    char *end;

    errno = 0;
    *ret = strtol(text, &end, 10);
    return errno == 0 && end != text && *end == '\0' && *ret >= min && *ret <= max ? 0 : -1;
}

static int add_label(struct flags *f, char *text)
{
    char *equals = strchr(text, '=');

    if (equals == NULL)
        return wrong("--label %s: not KEY=VALUE", text);
    *equals = '\0';
    if (strcmp(text, "region") == 0 || strcmp(text, "machine") == 0)
        return wrong("--label %s: is set by the region node", text);
    if (doc_check_name("label", text, NULL) < 0 || strlen(equals + 1) > LABEL_MAX_BYTES)
        return wrong("--label %s: not a name, or its value is too long", text);
    if (f->o.nlabels == AGENT_LABELS_MAX - 1)
        return wrong("--label: more than %d", AGENT_LABELS_MAX - 1);
    for (size_t i = 0; i < f->o.nlabels; i++) {
        if (strcmp(f->labels[i].key, text) == 0)
            return wrong("--label %s: given twice", text);
    }
    f->labels[f->o.nlabels++] = (struct label){ text, equals + 1 };
    return 0;
}

static int by_key(const void *a, const void *b)
{
    return strcmp(((const struct label *)a)->key, ((const struct label *)b)->key);
}

static void finish_labels(struct flags *f)
{
    struct utsname u;
    bool has_arch = false;

    for (size_t i = 0; i < f->o.nlabels; i++)
        has_arch = has_arch || strcmp(f->labels[i].key, "arch") == 0;
    if (!has_arch && uname(&u) == 0) {
        f->machine_arch = mem_strdup(u.machine);
        f->labels[f->o.nlabels++] = (struct label){ "arch", f->machine_arch };
    }
    qsort(f->labels, f->o.nlabels, sizeof(f->labels[0]), by_key);
    f->o.labels = f->labels;
}

static int set_region(struct flags *f, const char *text)
{
    char *colon;
    long port;

    free(f->region);
    f->region = mem_strdup(text);
    colon = strrchr(f->region, ':');
    if (colon == NULL || colon == f->region || parse_number(colon + 1, 1, 65535, &port) < 0)
        return wrong("--region %s: not HOST:PORT", text);
    *colon = '\0';
    f->o.region_host = f->region;
    f->o.region_port = (int)port;
    return 0;
}

static int take_flag(struct flags *f, int flag, char *value)
{
    long number;

    switch (flag) {
    case 'r':
        return set_region(f, value);
    case 'i':
        f->o.identity_dir = value;
        return 0;
    case 'd':
        f->o.root = value;
        return 0;
    case 'l':
        f->o.listen = value;
        return 0;
    case 'L':
        return add_label(f, value);
    case 'R':
        f->o.ready_file = value;
        return 0;
    case 'P':
        if (parse_number(value, 0, 1 << 20, &number) < 0)
            return wrong("--parent-fd %s: not a file descriptor", value);
        f->o.parent_fd = (int)number;
        return 0;
    case 'K':
        if (parse_number(value, 1, 1 << 30, &number) < 0)
            return wrong("--keep-packs %s: not a number of seconds", value);
        f->o.keep_packs_ms = (int64_t)number * 1000;
        return 0;
    case 'u':
        return rate_parse(value, &f->o.up_bytes) < 0 ? wrong("--limit-up %s: not a rate", value)
                                                     : 0;
    case 'w':
        return rate_parse(value, &f->o.down_bytes) < 0 ? wrong("--limit-down %s: not a rate", value)
                                                       : 0;
    case 'S':
        f->o.stop_services = true;
        return 0;
    case 'o':
        f->json = strcmp(value, "json") == 0;
        return f->json || strcmp(value, "text") == 0 ? 0 : wrong("-o %s: text or json", value);
    default:
        fprintf(stderr, "Try 'engine-agent --help'.\n");
        return EXIT_USAGE;
    }
}

static int parse_flags(struct flags *f, int argc, char **argv)
{
    static const struct option options[] = {
        { "region", required_argument, NULL, 'r' },
        { "identity", required_argument, NULL, 'i' },
        { "root", required_argument, NULL, 'd' },
        { "listen", required_argument, NULL, 'l' },
        { "label", required_argument, NULL, 'L' },
        { "ready-file", required_argument, NULL, 'R' },
        { "parent-fd", required_argument, NULL, 'P' },
        { "keep-packs", required_argument, NULL, 'K' },
        { "limit-up", required_argument, NULL, 'u' },
        { "limit-down", required_argument, NULL, 'w' },
        { "stop-services-with-parent", no_argument, NULL, 'S' },
        { "output", required_argument, NULL, 'o' },
        { NULL, 0, NULL, 0 },
    };
    int flag, r = 0;

    f->o.parent_fd = -1;
    while (r == 0 && (flag = getopt_long(argc, argv, "o:", options, NULL)) != -1)
        r = take_flag(f, flag, optarg);
    if (r == 0 && optind < argc)
        return wrong("%s: not expected", argv[optind]);
    if (r == 0 && f->o.root == NULL)
        return wrong("--root is missing");
    return r;
}

static int run(struct flags *f)
{
    struct err err = ERR_INIT;

    if (f->o.region_host == NULL || f->o.identity_dir == NULL || f->o.listen == NULL)
        return wrong("--%s is missing", f->o.region_host == NULL    ? "region"
                                        : f->o.identity_dir == NULL ? "identity"
                                                                    : "listen");
    finish_labels(f);
    log_setup("agent", STDERR_FILENO);
    if (agent_main_loop(&f->o, &err) == 0)
        return 0;
    log_error("%s", err.text);
    return EXIT_FAILED;
}

static int guard(const struct flags *f)
{
    struct err err = ERR_INIT;

    if (f->o.parent_fd < 0)
        return wrong("--parent-fd is missing");
    log_setup("agent/guard", STDERR_FILENO);
    if (guard_main(f->o.root, f->o.parent_fd, &err) == 0)
        return 0;
    log_error("%s", err.text);
    return EXIT_FAILED;
}

static int status(const struct flags *f)
{
    AUTO_BUF out = BUF_INIT;
    struct err err = ERR_INIT;

    if (status_print(&out, f->o.root, f->json, &err) < 0) {
        fprintf(stderr, "engine-agent: %s\n", err.text);
        return EXIT_FAILED;
    }
    return fwrite(out.data, 1, out.len, stdout) == out.len && fflush(stdout) == 0 ? 0 : EXIT_FAILED;
}

int main(int argc, char **argv)
{
    struct flags f = { 0 };
    const char *verb = argc > 1 ? argv[1] : "";
    int code;

    if (strcmp(verb, "--help") == 0 || strcmp(verb, "-h") == 0 || strcmp(verb, "help") == 0)
        return fputs(usage, stdout) < 0 ? EXIT_FAILED : 0;
    if (strcmp(verb, "--version") == 0)
        return printf("engine-agent, link version %d\n", VERSION_LINK) < 0 ? EXIT_FAILED : 0;
    if (strcmp(verb, "fetch") == 0)
        return fetch_command(argc - 1, argv + 1);
    if (strcmp(verb, "run") != 0 && strcmp(verb, "status") != 0 && strcmp(verb, "guard") != 0)
        return verb[0] == '\0' ? wrong("run, status or fetch?") : wrong("unknown verb '%s'", verb);
    code = parse_flags(&f, argc - 1, argv + 1);
    if (code == 0)
        code = strcmp(verb, "run") == 0     ? run(&f)
               : strcmp(verb, "guard") == 0 ? guard(&f)
                                            : status(&f);
    free(f.region);
    free(f.machine_arch);
    return code;
}
