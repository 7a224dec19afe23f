"use strict";
// Verdicts, tables, figures, methods and provenance, below the pictures.
const SENTENCES_SHOWN = 4;

function detailsSections(details) {
  const files = (folder, name, formats) => formats.flatMap((format, i) => [i ? ", " : "", h("a", {href: `${folder}/${name}.${format}`}, format)]);
  const statement = (sentence) => h("p.statement", {}, sentence);
  const compared = details.comparisons.map(({title, sentences, grid}) => h("div", {}, title ? h("h3", {}, title) : null,
    grid ? table(grid) : null,
    sentences.length > SENTENCES_SHOWN
      ? h("details", {}, h("summary", {}, "All comparisons in sentences"), sentences.map(statement))
      : sentences.map(statement)));
  return [
    h("section", {}, h("h2", {}, "Comparison"), details.decisions.map(statement), compared),
    h("section", {}, h("h2", {}, "Tables"), details.tables.map(({name, grids}) =>
      h("div", {}, grids.map(table), h("p.small", {}, `${name}: `, files("tables", name, ["md", "csv", "tex"]))))),
    h("section", {}, h("h2", {}, "Figures"), h("div.figures", {}, details.figures.map(({name, caption}) =>
      h("figure", {}, h("img", {src: `figures/${name}.svg`, alt: caption, loading: "lazy"}),
        h("figcaption", {}, caption, " ", files("figures", name, ["svg", "pdf", "png"])))))),
    h("section", {}, h("h2", {}, "Methods"), h("p", {}, details.methods),
      h("p.small", {}, "For a paper: ", h("a", {href: "methods.tex"}, "methods.tex"), ", ", h("a", {href: "references.bib"}, "references.bib")),
      h("details", {}, h("summary", {}, "References"), h("pre", {}, details.references))),
    h("section", {}, h("h2", {}, "Provenance"), details.provenance.map(({name, text}) =>
      h("details", {}, h("summary", {}, name), h("pre", {}, text)))),
  ];
}
