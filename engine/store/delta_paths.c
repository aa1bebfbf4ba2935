#include "store/delta_paths.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/mem.h"
#include "io/files.h"

static int check_there(const char *what, const char *path, struct err *err)
{
    struct stat st;

    return stat(path, &st) < 0 ? err_sys(err, errno, "%s %s", what, path) : 0;
}

/* The directory that holds path. */
static char *parent_of(const char *path)
{
    size_t len = strlen(path);

    while (len > 1 && path[len - 1] == '/')
        len--;
    while (len > 0 && path[len - 1] != '/')
        len--;
    while (len > 1 && path[len - 1] == '/')
        len--;
    return len == 0 ? mem_strdup(".") : mem_strndup(path, len);
}

static int check_parent(const char *what, const char *path, struct err *err)
{
    AUTO_FREE char *parent = parent_of(path);
    struct stat st;

    if (stat(parent, &st) < 0)
        return err_sys(err, errno, "%s %s: its directory %s", what, path, parent);
    if (!S_ISDIR(st.st_mode))
        return err_set(err, ERR_INVALID, "%s %s: %s is no directory", what, path, parent);
    if (access(parent, W_OK | X_OK) < 0)
        return err_sys(err, errno, "%s %s: cannot write in %s", what, path, parent);
    return 0;
}

/* What is made must not be, nor lie in, what it is made from. */
static int check_apart(const char *what, const char *path, const char *of, const char *input,
                       struct err *err)
{
    AUTO_FREE char *parent = parent_of(path);
    AUTO_BUF inside = BUF_INIT;
    AUTO_BUF outside = BUF_INIT;
    struct stat a, b;

    if (input == NULL)
        return 0;
    if (stat(path, &a) == 0 && stat(input, &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino)
        return err_set(err, ERR_INVALID, "%s %s is %s itself: give another name", what, path, of);
    if (path_real(&inside, parent, NULL) < 0 || path_real(&outside, input, NULL) < 0)
        return 0;
    buf_char(&inside, '/');
    if (strcmp(buf_str(&outside), "/") != 0)
        buf_char(&outside, '/');
    if (path_is_dir(input) && strncmp(inside.data, outside.data, outside.len) == 0)
        return err_set(err, ERR_INVALID, "%s %s lies inside %s %s: put it somewhere else", what,
                       path, of, input);
    return 0;
}

/* The new pack takes the place of what is there: of a file, but not of /dev/null. A symlink would be
 * replaced, too, not what it leads to. */
static int check_replaceable(const char *pack, struct err *err)
{
    struct stat st;

    if (lstat(pack, &st) < 0 || S_ISREG(st.st_mode))
        return 0;
    if (path_is_dir(pack))
        return err_set(err, ERR_INVALID, "PACK %s is a directory: give the name of a file", pack);
    return err_set(err, ERR_INVALID, "PACK %s is there, and no file: give another name", pack);
}

int delta_paths_make(const char *base, const char *target, const char *pack, struct err *err)
{
    int r = base == NULL ? 0 : check_there("BASE", base, err);

    if (r == 0)
        r = check_there("TARGET", target, err);
    if (r == 0)
        r = check_parent("PACK", pack, err);
    if (r == 0)
        r = check_apart("PACK", pack, "BASE", base, err);
    if (r == 0)
        r = check_apart("PACK", pack, "TARGET", target, err);
    return r < 0 ? r : check_replaceable(pack, err);
}

/* OUT.part is emptied, or removed: nobody's input may be in it. */
static int check_no_part(const char *of, const char *input, const char *out, struct err *err)
{
    AUTO_FREE char *parent = parent_of(out);
    AUTO_BUF part = BUF_INIT;
    AUTO_BUF real = BUF_INIT;
    size_t len = strlen(out), from;

    if (input == NULL || path_real(&part, parent, NULL) < 0 || path_real(&real, input, NULL) < 0)
        return 0;
    while (len > 1 && out[len - 1] == '/')
        len--;
    for (from = len; from > 0 && out[from - 1] != '/'; from--)
        ;
    if (strcmp(buf_str(&part), "/") != 0)
        buf_char(&part, '/');
    buf_append(&part, out + from, len - from);
    buf_str_append(&part, ".part");
    if (strncmp(buf_str(&real), buf_str(&part), part.len) != 0 ||
        (real.data[part.len] != '\0' && real.data[part.len] != '/'))
        return 0;
    return err_set(err, ERR_INVALID, "%s %s lies in %s, which is needed for work: move it away", of,
                   input, buf_str(&part));
}

int delta_paths_apply(const char *base, const char *pack, const char *out, struct err *err)
{
    int r = base == NULL ? 0 : check_there("BASE", base, err);

    if (r == 0)
        r = check_parent("OUT", out, err);
    if (r == 0)
        r = check_apart("OUT", out, "BASE", base, err);
    if (r == 0)
        r = check_no_part("BASE", base, out, err);
    if (r == 0)
        r = check_no_part("PACK", pack, out, err);
    return r;
}
