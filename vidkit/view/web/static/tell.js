// What a screen reader should say, and what everybody should see for a moment.

const room = document.getElementById("announce");
let timer = 0;

export function tell(words) {
  room.textContent = words;
  room.classList.add("shown");
  clearTimeout(timer);
  timer = setTimeout(() => room.classList.remove("shown"), 2500);
}

// an error that ends the work of this page: what the server said, and the way on; null: it is over
export function trouble(said) {
  const box = document.getElementById("trouble");
  if (!said) { box.hidden = true; return; }
  box.querySelector(".what").textContent = [said.where, said.error].filter(Boolean).join(": ");
  box.querySelector(".hint").textContent = said.hint ?? "";
  box.hidden = false;
}

export async function ask(address, how = {}) {
  const answer = await fetch(address, { ...how, headers: { accept: "application/json", ...how.headers } });
  const value = await answer.json().catch(() => ({ error: `the server answered ${answer.status}` }));
  if (!answer.ok) throw Object.assign(new Error(value.error), { said: value });
  return value;
}
