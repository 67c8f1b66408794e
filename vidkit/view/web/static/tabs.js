// Tabs that do not fit a narrow page can be moved; the one of this page is in sight.

const row = document.querySelector(".tabs");
const current = row?.querySelector("[aria-current]");
if (current) row.scrollLeft = current.offsetLeft - row.offsetLeft - (row.clientWidth - current.offsetWidth) / 2;
