const events = new EventSource("events");
const titleOf = details => details.querySelector("summary").textContent;
events.onmessage = async () => {
  const text = await (await fetch(location.href)).text();
  const next = new DOMParser().parseFromString(text, "text/html");
  const open = new Set([...document.querySelectorAll("details[open]")].map(titleOf));
  for (const name of ["header", "main"]) document.querySelector(name).replaceWith(next.querySelector(name));
  document.querySelectorAll("details").forEach(d => { d.open = open.has(titleOf(d)); });
};
