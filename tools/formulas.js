// Reads [{latex, display}] as JSON from stdin and writes the list of TeX errors, null where a formula parses.
// MathJax's own packages "noerrors" and "noundefined" are left out: they are what makes a browser show broken LaTeX quietly.
const folder = process.argv[2];

async function main() {
  const MathJax = await require(`${folder}/node-main.js`).init({
    loader: { paths: { mathjax: folder }, load: ["input/tex-base", "[tex]/ams", "[tex]/newcommand", "[tex]/boldsymbol"] },
    tex: {
      packages: ["base", "ams", "newcommand", "boldsymbol"],
      formatError: (_, error) => { throw error; },
    },
  });
  const chunks = [];
  for await (const chunk of process.stdin) chunks.push(chunk);
  const errors = JSON.parse(Buffer.concat(chunks).toString("utf8")).map(({ latex, display }) => {
    try {
      MathJax.tex2mml(latex, { display });
      return null;
    } catch (error) {
      return error.message;
    }
  });
  process.stdout.write(JSON.stringify(errors));
}

main().catch((error) => { console.error(error.message); process.exit(1); });
