/* engine policy new, doc and test: what an author needs beside the checks. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/embedded.h"
#include "base/mem.h"
#include "cli/flags.h"
#include "cli/policy.h"
#include "io/files.h"

static const struct embedded *embedded(const char *path)
{
    for (const struct embedded *e = embedded_files; e->path != NULL; e++)
        if (strcmp(e->path, path) == 0)
            return e;
    return NULL;
}

/* The embedded file with `name` in place of every "skeleton". */
static void fill_in(struct buf *out, const struct embedded *e, const char *name)
{
    static const char word[] = "skeleton";
    const char *at = (const char *)e->data, *end = at + e->len;
    for (const char *hit; (hit = memmem(at, (size_t)(end - at), word, strlen(word))) != NULL;
         at = hit + strlen(word)) {
        buf_append(out, at, (size_t)(hit - at));
        buf_str_append(out, name);
    }
    buf_append(out, at, (size_t)(end - at));
}

static const char luacheckrc[] =
    "-- luacheck: what a policy may use. Its sandbox has no more than this.\n"
    "std = \"slipway\"\n"
    "stds.slipway = { read_globals = {\n"
    "    \"assert\", \"error\", \"ipairs\", \"pairs\", \"require\", \"select\", \"tonumber\", "
    "\"tostring\", \"type\",\n"
    "    math = { fields = { \"abs\", \"ceil\", \"floor\", \"fmod\", \"huge\", \"max\", "
    "\"maxinteger\", \"min\",\n"
    "        \"mininteger\", \"tointeger\", \"type\", \"ult\" } },\n"
    "    string = { fields = { \"byte\", \"char\", \"contains\", \"ends_with\", \"format\", "
    "\"len\", \"lower\",\n"
    "        \"rep\", \"split\", \"starts_with\", \"sub\", \"upper\" } },\n"
    "    table = { fields = { \"concat\", \"insert\", \"remove\", \"sort\", \"unpack\" } },\n"
    "} }\n"
    "files[\"**/*_spec.lua\"] = { std = \"lua54+busted\" }\n";

static int write_new(const char *path, const char *data, size_t len, struct err *err)
{
    if (path_exists(path))
        return err_set(err, ERR_EXISTS, "%s is there already", path);
    int rc = file_publish(path, data, len, 0644, err);
    if (rc == 0)
        printf("wrote %s\n", path);
    return rc;
}

static int write_filled(const char *name, const char *suffix, struct err *err)
{
    AUTO_FREE char *from = mem_printf("policies/slipway/skeleton%s", suffix);
    AUTO_FREE char *to = mem_printf("%s%s", name, suffix);
    AUTO_BUF text = BUF_INIT;
    const struct embedded *e = embedded(from);
    if (e == NULL)
        return err_set(err, ERR_INTERNAL, "%s is not in this binary", from);
    fill_in(&text, e, name);
    return write_new(to, text.data, text.len, err);
}

int policy_verb_new(int argc, char **argv)
{
    static const struct verb verb = { "policy new SERVICE",
                                      "Writes SERVICE.lua, SERVICE_spec.lua and .luacheckrc into "
                                      "this directory. What is there already is left alone.",
                                      NULL,
                                      0,
                                      1,
                                      1 };
    struct globals g;
    struct err err = ERR_INIT;
    int operands, code;
    if (flags_parse(&verb, &g, argc, argv, &operands, &code) != 0)
        return code;
    const char *name = argv[0];
    size_t word = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_");
    if (word == 0 || name[word] != 0 || word > 60 || *name == '-') {
        err_set(&err, ERR_INVALID, "a service is letters, digits, - and _: %s", name);
        return fail(&g, &err);
    }
    if (write_filled(name, ".lua", &err) < 0 || write_filled(name, "_spec.lua", &err) < 0)
        return fail(&g, &err);
    if (!path_exists(".luacheckrc") &&
        write_new(".luacheckrc", luacheckrc, strlen(luacheckrc), &err) < 0)
        return fail(&g, &err);
    return EXIT_OK;
}

/* Prints one annotation of types.lua; *shown says whether its class is the wanted one (NULL: all). */
static void print_annotation(const char *line, int len, const char *wanted, bool *shown)
{
    char name[64] = "";
    int rest = 0;
    bool class = sscanf(line, "---@class %63s%n", name, &rest) == 1;
    bool field = !class && sscanf(line, "---@field %63s%n", name, &rest) == 1;
    const char *about = line + rest, *end = line + len;
    about += strspn(about, " ");
    if (class)
        *shown = wanted == NULL || strcmp(wanted, name) == 0;
    if (!*shown || (!class && !field))
        return;
    if (class) {
        printf("\n%s%s%s\n", name, about < end ? " - " : "", about);
        return;
    }
    /* Two spaces end the type. */
    const char *gap = strstr(about, "  ");
    int type = (int)((gap != NULL ? gap : end) - about);
    const char *text = about + type;
    printf("  %-16s %.*s%s%s\n", name, type, about, *text ? "\n                     " : "",
           text + strspn(text, " "));
}

int policy_verb_doc(int argc, char **argv)
{
    static const struct verb verb = { "policy doc [CLASS]",
                                      "Prints what a policy sees and returns: everything, or one "
                                      "class such as Wave or Snapshot.",
                                      NULL,
                                      0,
                                      0,
                                      1 };
    struct globals g;
    struct err err = ERR_INIT;
    int operands, code;
    if (flags_parse(&verb, &g, argc, argv, &operands, &code) != 0)
        return code;
    const struct embedded *e = embedded("policies/slipway/types.lua");
    if (e == NULL) {
        err_set(&err, ERR_INTERNAL, "types.lua is not in this binary");
        return fail(&g, &err);
    }
    AUTO_FREE char *text = mem_strndup((const char *)e->data, e->len);
    bool shown = false, any = false;
    for (char *line = text; *line != 0;) {
        size_t len = strcspn(line, "\n");
        bool last = line[len] == 0;
        line[len] = 0;
        print_annotation(line, (int)len, operands > 0 ? argv[0] : NULL, &shown);
        any = any || shown;
        line += len + (last ? 0 : 1);
    }
    if (any)
        return EXIT_OK;
    err_set(&err, ERR_NOT_FOUND, "no class %s; `engine policy doc` lists all", argv[0]);
    return fail(&g, &err);
}

/* Where the Lua library lies: beside the build directory, or below the prefix. */
static void set_lua_path(const char *exe)
{
    AUTO_FREE char *dir = mem_strdup(exe);
    char *slash = strrchr(dir, '/');
    if (slash != NULL)
        *slash = 0;
    AUTO_FREE char *path = mem_printf("%s/../policies/?.lua;%s/../policies/?/init.lua;"
                                      "%s/../share/slipway/policies/?.lua;"
                                      "%s/../share/slipway/policies/?/init.lua;;",
                                      dir, dir, dir, dir);
    setenv("LUA_PATH", path, 1);
}

/* web.lua means web_spec.lua. Gives the path. */
static char *spec_of(const char *path)
{
    size_t len = strlen(path);
    bool lua = len > 4 && strcmp(path + len - 4, ".lua") == 0;
    bool spec = len > 9 && strcmp(path + len - 9, "_spec.lua") == 0;
    if (!lua || spec)
        return mem_strdup(path);
    return mem_printf("%.*s_spec.lua", (int)len - 4, path);
}

int policy_verb_test(int argc, char **argv)
{
    static const struct verb verb = { "policy test [SPEC…]",
                                      "Runs specs by busted: files, directories, or policies whose "
                                      "spec lies beside them. Without any: the current directory.",
                                      NULL,
                                      0,
                                      0,
                                      1000 };
    struct globals g;
    struct err err = ERR_INIT;
    int operands, code;
    if (flags_parse(&verb, &g, argc, argv, &operands, &code) != 0)
        return code;
    static const char busted[] = "/usr/bin/busted";
    AUTO_BUF exe = BUF_INIT;
    if (!path_exists(busted))
        err_set(&err, ERR_NOT_FOUND, "%s is missing: apt-get install lua-busted lua5.4", busted);
    else if (path_real(&exe, "/proc/self/exe", &err) == 0)
        err.code = ERR_NONE;
    if (err.code != ERR_NONE)
        return fail(&g, &err);
    setenv("ENGINE", exe.data, 1);
    set_lua_path(exe.data);
    char **args = mem_calloc((size_t)operands + 5, sizeof(*args));
    int n = 0;
    args[n++] = mem_strdup("lua5.4");
    args[n++] = mem_strdup(busted);
    args[n++] = mem_strdup("--pattern=_spec");
    for (int i = 0; i < operands; i++)
        args[n++] = spec_of(argv[i]);
    if (operands == 0)
        args[n++] = mem_strdup(".");
    execvp(args[0], args);
    err_sys(&err, errno, "%s", args[0]);
    return fail(&g, &err);
}
