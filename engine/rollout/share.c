#include "rollout/share.h"

static uint64_t sum(const uint64_t *v, size_t n)
{
    uint64_t total = 0;

    for (size_t i = 0; i < n; i++)
        total += v[i];
    return total;
}

/* How far region i is below its exact quota; the region furthest below comes first, the larger one
 * where two are equal, then the earlier. */
static size_t neediest(const uint64_t *shares, const uint64_t *sizes, size_t n, double part)
{
    size_t best = n;
    double best_lack = 0;

    for (size_t i = 0; i < n; i++) {
        double lack = (double)sizes[i] * part - (double)shares[i];

        if (shares[i] >= sizes[i])
            continue;
        if (best == n || lack > best_lack + 1e-9 ||
            (lack > best_lack - 1e-9 && sizes[i] > sizes[best])) {
            best = i;
            best_lack = lack;
        }
    }
    return best;
}

void share_raise(uint64_t *shares, const uint64_t *sizes, size_t n, uint64_t target)
{
    uint64_t all = sum(sizes, n), have = sum(shares, n);
    double part = all == 0 ? 0 : (double)target / (double)all;

    /* Whole parts first, as far as the target allows; at most n - 1 are then left to remainders,
     * and a few more where a region already had more than its quota. */
    for (size_t i = 0; i < n; i++) {
        uint64_t whole = (uint64_t)((double)sizes[i] * part + 1e-9);

        if (whole > sizes[i])
            whole = sizes[i];
        if (whole > shares[i] && whole - shares[i] > target - have)
            whole = shares[i] + (target - have);
        if (whole > shares[i]) {
            have += whole - shares[i];
            shares[i] = whole;
        }
    }
    for (; have < target; have++) {
        size_t i = neediest(shares, sizes, n, part);

        if (i == n)
            return;
        shares[i]++;
    }
}
