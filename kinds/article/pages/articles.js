"use strict";
// Search, filters and the mark in the index. Without this script the page is whole, only longer to look through.
(() => {
  const index = document.querySelector(".index");
  if (!index) return;
  const narrow = matchMedia("(max-width: 56rem)");
  const search = index.querySelector("input");
  const found = index.querySelector(".found");
  const buttons = [...index.querySelectorAll("[data-show]")];
  const entries = [...index.querySelectorAll("ol a")].map((link) => {
    const article = document.getElementById(link.hash.slice(1));
    const text = article.querySelector("header").textContent + article.querySelector(".text").textContent;
    return { link, article, text: text.toLowerCase(), remarks: article.dataset.remarks.split(" ") };
  });
  let show = "";

  const apply = () => {
    const wanted = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let number = 0;
    for (const { link, article, text, remarks } of entries) {
      const fits = (!show || remarks.includes(show)) && wanted.every((word) => text.includes(word));
      link.parentElement.hidden = article.hidden = !fits;
      number += fits;
    }
    found.textContent = number === entries.length ? "" : `${number} of ${entries.length} articles`;
  };

  const mark = (article) => {
    for (const { link, article: other } of entries) {
      if (other !== article) link.removeAttribute("aria-current");
      else {
        link.setAttribute("aria-current", "true");
        const box = index.getBoundingClientRect();
        const at = link.getBoundingClientRect();
        if (!narrow.matches && (at.top < box.top || at.bottom > box.bottom)) index.scrollTop += at.top - box.top - box.height / 3;
      }
    }
  };

  // The article under the upper third of the window is the one being read.
  const observer = new IntersectionObserver(
    (seen) => seen.forEach(({ isIntersecting, target }) => isIntersecting && mark(target)),
    { rootMargin: "-20% 0px -79% 0px" },
  );
  entries.forEach(({ article }) => observer.observe(article));
  search.addEventListener("input", apply);
  for (const button of buttons) {
    button.addEventListener("click", () => {
      show = button.dataset.show;
      buttons.forEach((other) => other.setAttribute("aria-pressed", String(other === button)));
      apply();
    });
  }
  index.querySelector("details").open = !narrow.matches;
  index.querySelector(".tools").hidden = false;
})();
