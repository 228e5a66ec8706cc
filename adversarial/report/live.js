const events = new EventSource("events");
events.onmessage = async () => {
  const open = [...document.querySelectorAll("details")].map(d => d.open);
  const text = await (await fetch(location.href)).text();
  const next = new DOMParser().parseFromString(text, "text/html");
  for (const name of ["header", "main"]) document.querySelector(name).replaceWith(next.querySelector(name));
  document.querySelectorAll("details").forEach((d, i) => { d.open = open[i] === true; });
};
