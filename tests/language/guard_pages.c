/* Guard pages for torch's tensors, preloaded (LD_PRELOAD) where the tests hunt for accesses outside of them.

   torch gets the memory of its tensors from posix_memalign.  Between guard_pages(fill) and the end of the process each
   block has pages of its own: it ends where a page that can't be touched begins, so that the first byte read or written
   behind it is a SIGSEGV; it and what lies before it on its first page hold `fill`, which free() looks for (a byte written
   before the block is a SIGABRT) and which two runs with different fills show in their results where uninitialised memory,
   or memory before the block, is read.  Freed pages are never used again: touching them is a SIGSEGV, too. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define PAGE 4096UL
#define SPACE (1UL << 40)

static unsigned char *space;     /* reserved addresses, none accessible at first */
static size_t used;              /* bytes of it that were ever given out */
static int fill = -1;            /* the byte that fresh memory holds; -1: not switched on */
static size_t *sizes;            /* the size asked for, by number of the block's first page */

static void *(*real_memalign)(size_t, size_t);
static void (*real_free)(void *);

void guard_pages(int byte)
{
    space = mmap(NULL, SPACE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    sizes = mmap(NULL, SPACE / PAGE * sizeof *sizes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (space == MAP_FAILED || sizes == MAP_FAILED)
        abort();
    fill = byte;
}

int posix_memalign(void **result, size_t alignment, size_t size)
{
    if (!real_memalign)
        real_memalign = (void *(*)(size_t, size_t))dlsym(RTLD_NEXT, "memalign");
    if (fill < 0 || !size) {
        *result = real_memalign(alignment, size);
        return *result ? 0 : ENOMEM;
    }
    if (size > SPACE / 4)
        return ENOMEM;
    size_t data = (size + PAGE - 1) / PAGE * PAGE;
    size_t at = __atomic_fetch_add(&used, data + PAGE, __ATOMIC_RELAXED);
    if (at + data + PAGE > SPACE || mprotect(space + at, data, PROT_READ | PROT_WRITE))
        return ENOMEM;
    memset(space + at, fill, data < (1UL << 24) ? data : (1UL << 24));
    sizes[at / PAGE] = size;
    *result = space + at + data - size;
    return 0;
}

void free(void *block)
{
    if (!real_free)
        real_free = (void (*)(void *))dlsym(RTLD_NEXT, "free");
    unsigned char *byte = block;
    if (fill < 0 || byte < space || byte >= space + SPACE) {
        real_free(block);
        return;
    }
    size_t at = (size_t)(byte - space) / PAGE * PAGE, data = (sizes[at / PAGE] + PAGE - 1) / PAGE * PAGE;
    for (unsigned char *before = space + at; before < byte; before++)
        if (*before != fill)
            abort();
    if (data > 16 * PAGE)  /* small ones wait for the end of the process: it is short */
        madvise(space + at, data, MADV_DONTNEED);
    mprotect(space + at, data, PROT_NONE);
}
