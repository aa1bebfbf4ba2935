/* engine keys - the cluster's keys and the identities of its nodes. */
#include "control/keys.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "cli/cli.h"
#include "cli/flags.h"
#include "io/pki.h"

struct keys_flags {
    const char *keys, *cluster, *out, *role, *id;
};

static int parse_role(enum link_role *ret, const char *text, struct err *err)
{
    for (int r = ROLE_CONTROL; r <= ROLE_WORKER; r++) {
        if (text != NULL && strcmp(role_name((enum link_role)r), text) == 0) {
            *ret = (enum link_role)r;
            return 0;
        }
    }
    return err_set(err, ERR_INVALID, "--role is control, region, agent or worker");
}

static int issue(const struct keys *k, const struct keys_flags *f, struct err *err)
{
    enum link_role role = ROLE_NONE;
    int r = parse_role(&role, f->role, err);

    if (r == 0 && (f->out == NULL || f->id == NULL))
        r = err_set(err, ERR_INVALID, "--out and --id are needed");
    if (r == 0)
        r = keys_issue(k, f->out, role, f->id, err);
    if (r == 0)
        printf("%s: %s %s of cluster %s\n", f->out, f->role, f->id, k->cluster);
    return r;
}

static int run(const char *what, const struct keys_flags *f, struct err *err)
{
    struct keys *k = NULL;
    int r;

    if (strcmp(what, "init") != 0 && strcmp(what, "issue") != 0)
        return err_set(err, ERR_INVALID, "keys init or keys issue, not '%s'", what);
    r = keys_open(&k, f->keys, f->cluster, err);
    if (r == 0 && strcmp(what, "issue") == 0)
        r = issue(k, f, err);
    else if (r == 0)
        printf("cluster %s, root key %s\n", k->cluster, k->root_pub);
    keys_free(k);
    return r;
}

int cli_keys(int argc, char **argv)
{
    struct keys_flags f = { 0 };
    const struct flag flags[] = {
        { "keys", FLAG_TEXT, &f.keys, "DIR", "the keys; STATE/keys" },
        { "cluster", FLAG_TEXT, &f.cluster, "NAME", "init: name of a new cluster" },
        { "out", FLAG_TEXT, &f.out, "DIR", "issue: the identity directory to write" },
        { "role", FLAG_TEXT, &f.role, "ROLE", "issue: control, region, agent or worker" },
        { "id", FLAG_TEXT, &f.id, "NAME", "issue: the name in the certificate" },
    };
    const struct verb verb = { "keys init|issue [options]",
                               "init makes the keys of a cluster, unless they are there. issue "
                               "makes the identity of a region node or a machine.",
                               flags,
                               COUNT_OF(flags),
                               1,
                               1 };
    AUTO_FREE char *keys = NULL;
    struct err err = ERR_INIT;
    struct globals g;
    int operands, code;

    if (flags_parse(&verb, &g, argc, argv, &operands, &code) != 0)
        return code;
    keys = mem_printf("%s/keys", g.state_dir);
    if (f.keys == NULL)
        f.keys = keys;
    return run(argv[0], &f, &err) < 0 ? fail(&g, &err) : EXIT_OK;
}
