#include "delta/translate.h"

#include <stdlib.h>
#include <string.h>

uint64_t translate(const struct translator *t, uint64_t address)
{
    const struct elf_load *from, *to;
    uint64_t offset;
    size_t load;

    if (!elf_offset(t->base, address, &offset, &load) || load >= t->target->nloads)
        return address;
    from = &t->base->loads[load];
    to = &t->target->loads[load];
    if (offset - from->offset >= from->file_bytes)
        return to->address + to->file_bytes + (offset - from->offset - from->file_bytes);
    return moves_at(t->moves, offset) - to->offset + to->address;
}

void sites_resolve(const struct sites *f, const struct translator *t, unsigned char *data,
                   uint64_t offset, size_t lead, size_t len)
{
    const struct elf *e = sites_elf(f);
    struct site_list list = { NULL, 0, 0 };
    uint64_t before = 0;

    sites_scan(f, data, offset, lead, len, false, &list);
    for (size_t i = 0; i < list.count; i++) {
        const struct site *site = &list.items[i];
        unsigned char *b = data + lead + site->at;
        uint64_t place = offset + site->at, target, value = 0;

        if (site->kind == SITE_PLACE) {
            memcpy(&target, b, 8);
            value = target - before;
            before = target;
        } else if (site->kind == SITE_FRAME_TABLE && (place - e->eh_hdr.from) % 8 != 4) {
            value = 0; /* where the frame lies follows from whose frame it is */
        } else if (site_target(e, site, b, place, &target)) {
            value = site_image(site, b, t == NULL ? target : translate(t, target));
        }
        memcpy(b, &value, site->width);
    }
    free(list.items);
}
