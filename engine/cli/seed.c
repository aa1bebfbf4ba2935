/* engine seed - gives one file or tree to any number of machines that know its reference. */
#include "region/seed.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/log.h"
#include "base/mem.h"
#include "cli/cli.h"
#include "cli/flags.h"
#include "io/files.h"

static bool has_port(const char *listen)
{
    const char *colon = strrchr(listen, ':');

    return colon != NULL && colon != listen && colon[1] != '\0';
}

/* Serves from a directory of its own, which is gone afterwards. */
static int serve_from_temporary(struct seed_options *o, const char *ref_file, int parent_fd,
                                struct err *err)
{
    const char *tmp = getenv("TMPDIR");
    AUTO_FREE char *dir = mem_printf("%s/slipway-seed.XXXXXX", tmp == NULL ? "/tmp" : tmp);
    struct err cleaning = ERR_INIT;
    int rv;

    if (mkdtemp(dir) == NULL)
        return err_set(err, ERR_IO, "make a directory like %s", dir);
    o->state = dir;
    rv = seed_main_loop(o, ref_file, parent_fd, err);
    if (dir_remove(dir, &cleaning) < 0)
        log_warn("%s", cleaning.text);
    return rv;
}

int cli_seed(int argc, char **argv)
{
    struct seed_options o = { .listen = "127.0.0.1:0" };
    const char *ref_file = NULL;
    int64_t parent_fd = -1, up_bytes = 0;
    const struct flag flags[] = {
        { "listen", FLAG_TEXT, &o.listen, "ADDR:PORT", "where machines connect; port 0: any" },
        { "host", FLAG_TEXT, &o.host, "HOST", "in the reference, if not ADDR" },
        { "keep", FLAG_TEXT, &o.state, "DIR", "keep store and keys: the same reference next time" },
        { "limit-up", FLAG_INT, &up_bytes, "N", "bytes a second" },
        { "ref-file", FLAG_TEXT, &ref_file, "FILE", "write the reference there, too" },
        { "parent-fd", FLAG_INT, &parent_fd, "N", "exit on EOF of this descriptor" },
    };
    const struct verb verb = { "seed PATH [--listen ADDR:PORT] [--ref-file FILE]",
                               "Makes an artifact of a file or directory and serves it to a swarm "
                               "of its own until it is stopped. Prints a reference: whoever has it "
                               "can `engine-agent fetch` from here and from each other.",
                               flags,
                               COUNT_OF(flags),
                               1,
                               1 };
    struct err err = ERR_INIT;
    struct globals g;
    int operands, code, rv;

    if (flags_parse(&verb, &g, argc, argv, &operands, &code) != 0)
        return code;
    log_setup("seed", 2);
    o.path = argv[0];
    o.json = g.json;
    o.up_bytes = up_bytes < 0 ? 0 : (uint64_t)up_bytes;
    if (!has_port(o.listen))
        rv = err_set(&err, ERR_INVALID, "--listen takes ADDR:PORT, not '%s'", o.listen);
    else if (o.state != NULL)
        rv = seed_main_loop(&o, ref_file, (int)parent_fd, &err);
    else
        rv = serve_from_temporary(&o, ref_file, (int)parent_fd, &err);
    return rv < 0 ? fail(&g, &err) : EXIT_OK;
}
