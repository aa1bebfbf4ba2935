/* engine serve - the control plane, as a process. */
#include "control/serve.h"

#include <stdlib.h>

#include "base/log.h"
#include "base/mem.h"
#include "cli/cli.h"
#include "cli/flags.h"

int cli_serve(int argc, char **argv)
{
    struct serve_options o = { .parent_fd = -1 };
    int64_t parent_fd = -1;
    struct texts heal_from = { .items = NULL };
    const char *rate = NULL;
    const struct flag flags[] = {
        { "db", FLAG_TEXT, &o.db, "URL", "the database (or ENGINE_DB); SQLite in --state" },
        { "store", FLAG_TEXT, &o.store, "DIR", "the origin store; STATE/store" },
        { "keys", FLAG_TEXT, &o.keys, "DIR", "keys of the cluster; STATE/keys" },
        { "identity", FLAG_TEXT, &o.identity, "DIR", "our certificate; made if missing" },
        { "cluster", FLAG_TEXT, &o.cluster, "NAME", "name of a new cluster" },
        { "http", FLAG_TEXT, &o.http, "ADDR:PORT", "the API (127.0.0.1:0: any free port)" },
        { "link", FLAG_TEXT, &o.link, "ADDR:PORT", "where region nodes connect (127.0.0.1:0)" },
        { "token-file", FLAG_TEXT, &o.token_file, "FILE", "the admin token; STATE/admin.token" },
        { "ready-file", FLAG_TEXT, &o.ready_file, "FILE", "published once it serves" },
        { "parent-fd", FLAG_INT, &parent_fd, "N", "exit on EOF of this descriptor" },
        { "heal-from", FLAG_LIST, &heal_from, "DIR",
          "a store to copy from what rotted in ours (a region's: DATA/store)" },
        { "scrub-every", FLAG_DURATION, &o.scrub_every_ms, "TIME",
          "from one reading of the whole store to the next; 24h" },
        { "scrub-rate", FLAG_TEXT, &rate, "BYTES", "read at most so much a second: 8M" },
        { "engine-path", FLAG_TEXT, &o.engine_path, "FILE", "the program of policy hosts" },
    };
    const struct verb verb = {
        "serve [--state DIR | --db URL --store DIR --keys DIR]",
        "The control plane: API, conductor, monitor, scrubber and the links to "
        "region nodes.\nKeys and an admin token are made on the first "
        "start.",
        flags,
        COUNT_OF(flags),
        0,
        0
    };
    struct err err = ERR_INIT;
    struct globals g;
    int operands, code;

    if (flags_parse(&verb, &g, argc, argv, &operands, &code) != 0)
        return code;
    if (o.db == NULL)
        o.db = getenv("ENGINE_DB");
    if (g.has_state || o.db == NULL || o.store == NULL || o.keys == NULL)
        o.state = g.state_dir;
    o.parent_fd = (int)parent_fd;
    o.heal_from = (const char *const *)heal_from.items;
    o.nheal_from = (size_t)heal_from.count;
    log_setup("serve", 2);
    code = flags_rate("--scrub-rate", rate, &o.scrub_bytes_per_s, &err) < 0 ||
                   serve_main_loop(&o, &err) < 0
               ? fail(&g, &err)
               : EXIT_OK;
    free(heal_from.items);
    return code;
}
