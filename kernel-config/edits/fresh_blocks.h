/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0 */
/*
 * Under either licence, so that it may be compiled into the kernel. Included by mm/page_alloc.c of the build's copy of
 * the source (see apply.sh).
 *
 * All memory above the first 128 MiB is handed to the page allocator in blocks of 1,024 pages, late in the start.
 * The kernel goes over the pages of a block three times: it fills in each page's description, takes back the
 * reference that this gave it, and clears flags that were never set, as of pages somebody had used. The first pass is
 * enough when it leaves the descriptions as the third would: a machine of 2 GiB then starts with 7 million instructions less.
 */
#pragma once

/* Hands a block to the allocator. Its pages are new, with no reference left. */
void __init msb_free_fresh_block(struct page *page)
{
    /* What the ordinary way would do to each page is nothing in a kernel without these. */
    BUILD_BUG_ON(IS_ENABLED(CONFIG_UNACCEPTED_MEMORY) || IS_ENABLED(CONFIG_KASAN) || IS_ENABLED(CONFIG_KMSAN) ||
                 IS_ENABLED(CONFIG_DEBUG_PAGEALLOC) || IS_ENABLED(CONFIG_PAGE_POISONING) ||
                 IS_ENABLED(CONFIG_PAGE_OWNER) || IS_ENABLED(CONFIG_PAGE_TABLE_CHECK) ||
                 IS_ENABLED(CONFIG_INIT_ON_FREE_DEFAULT_ON));
    atomic_long_add(MAX_ORDER_NR_PAGES, &page_zone(page)->managed_pages);
    free_one_page(page_zone(page), page, page_to_pfn(page), MAX_PAGE_ORDER, FPI_TO_TAIL);
}
