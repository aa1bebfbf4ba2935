/* policy_host: the child of a policy host as a program of its own, for tests. */
#include "policy/policy.h"

int main(void)
{
    return policy_host_main();
}
