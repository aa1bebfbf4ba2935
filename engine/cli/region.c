/* engine region - a region node, as a process. */
#include "region/region.h"

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/log.h"
#include "base/mem.h"
#include "cli/cli.h"
#include "cli/flags.h"

/* HOST:PORT; [v6]:PORT. *ret_host is the caller's to free. */
static int split_address(const char *text, char **ret_host, int *ret_port, struct err *err)
{
    const char *colon = strrchr(text, ':');
    long port = colon == NULL ? 0 : strtol(colon + 1, NULL, 10);
    size_t len = colon == NULL ? 0 : (size_t)(colon - text);

    if (port < 1 || port > 65535 || len == 0)
        return err_set(err, ERR_INVALID, "--control takes HOST:PORT, not '%s'", text);
    if (len > 2 && text[0] == '[' && text[len - 1] == ']') {
        text++;
        len -= 2;
    }
    *ret_host = mem_strndup(text, len);
    *ret_port = (int)port;
    return 0;
}

int cli_region(int argc, char **argv)
{
    struct region_options o = { .listen = "127.0.0.1:0" };
    const char *control = NULL;
    int64_t parent_fd = -1;
    const struct flag flags[] = {
        { "name", FLAG_TEXT, &o.name, "NAME", "the region's name" },
        { "identity", FLAG_TEXT, &o.identity, "DIR", "its certificate (engine keys issue)" },
        { "control", FLAG_TEXT, &control, "HOST:PORT", "the control plane's link" },
        { "store", FLAG_TEXT, &o.store, "DIR", "the origin store" },
        { "data", FLAG_TEXT, &o.data, "DIR", "its own files" },
        { "listen", FLAG_TEXT, &o.listen, "ADDR:PORT", "where agents connect" },
        { "ready-file", FLAG_TEXT, &o.ready_file, "FILE", "published once it serves" },
        { "parent-fd", FLAG_INT, &parent_fd, "N", "exit on EOF of this descriptor" },
    };
    const struct verb verb = { "region --name NAME --identity DIR --control HOST:PORT --store DIR "
                               "--data DIR --listen ADDR:PORT",
                               "A region node: replicates, seeds, relays goals, counts machines.",
                               flags,
                               COUNT_OF(flags),
                               0,
                               0 };
    struct err err = ERR_INIT;
    struct globals g;
    int operands, code, rv = 0;
    char *host = NULL;

    if (flags_parse(&verb, &g, argc, argv, &operands, &code) != 0)
        return code;
    if (o.name == NULL || o.identity == NULL || control == NULL || o.store == NULL ||
        o.data == NULL)
        rv = err_set(&err, ERR_INVALID,
                     "--name, --identity, --control, --store and --data are needed");
    if (rv == 0)
        rv = split_address(control, &host, &o.control_port, &err);
    if (rv == 0) {
        AUTO_FREE char *who = mem_printf("region/%s", o.name);

        log_setup(who, 2);
        o.control_host = host;
        o.parent_fd = (int)parent_fd;
        rv = region_main_loop(&o, &err);
    }
    free(host);
    return rv < 0 ? fail(&g, &err) : EXIT_OK;
}
