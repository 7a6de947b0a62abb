"""How Sphinx builds the documentation: `make docs`."""

from importlib import metadata

from docutils import nodes

project = "Flask-Idempotent"
author = "The Flask-Idempotent developers"
copyright = f"2026 {author}"
release = metadata.version("flask-idempotent")
version = release

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_copybutton"]
exclude_patterns = ["examples/**"]

html_theme = "furo"
html_title = f"{project} {release}"
html_logo = html_favicon = "examples/shop/static/mark.svg"
html_static_path = ["_static"]
html_css_files = ["docs.css"]
pygments_dark_style = "github-dark"

myst_enable_extensions = ["colon_fence", "deflist", "fieldlist"]
myst_heading_anchors = 3

# Of a console block the commands are copied, without their prompts and outputs.
copybutton_prompt_text = "$ "
copybutton_line_continuation_character = "\\"

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"

# Every cross-reference to a name of this package must be found. Other projects' names cannot be,
# as the build needs no network.
nitpicky = True
nitpick_ignore_regex = [
    (r"py:.*", r"(?!flask_idempotent\b).*"),
    (r"py:class", r"flask_idempotent\.web\.steps\.Result"),  # A type variable.
]


def setup(app):
    app.connect("doctree-read", label_cells)


def label_cells(app, doctree):
    """Let each cell of a stacked table say its column, for screens without room for the head."""
    for box in doctree.findall(nodes.container):
        if "stacked" not in box["classes"]:
            continue
        heads = [entry.astext() for head in box.findall(nodes.thead) for entry in head[0]]
        for row in next(iter(box.findall(nodes.tbody))):
            for head, entry in list(zip(heads, row, strict=True))[1:]:
                entry[0].insert(0, nodes.inline("", f"{head}: ", classes=["label"]))
