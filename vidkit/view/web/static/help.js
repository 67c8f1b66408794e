// "?" shows the keys.

export function keys_help() {
  const dialog = document.getElementById("keys");
  if (!dialog) return;
  document.querySelector(".open-keys")?.addEventListener("click", () => dialog.showModal());
  document.addEventListener("keydown", event => {
    if (event.key === "?" && !event.target.closest("input, select, textarea")) dialog.showModal();
  });
}
