const search = document.getElementById("search");
if (search) {
  const examples = [...document.querySelectorAll("#texts li")];
  const found = document.getElementById("found");
  search.addEventListener("input", () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const example of examples) {
      const text = example.textContent.toLowerCase();
      example.hidden = !words.every((word) => text.includes(word));
      if (!example.hidden) shown += 1;
    }
    for (const group of document.querySelectorAll("#texts details")) {
      const left = group.querySelectorAll("li:not([hidden])").length;
      group.querySelector(".count").textContent = left;
      group.open = words.length ? left > 0 : group.open;
    }
    found.textContent = words.length ? `${shown} of ${examples.length} texts` : "";
  });
}
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((part) => (part.open = true)));
