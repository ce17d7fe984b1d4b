"""Give a picture in a notebook's output the alt text that its cell computed (metadata ``image/png: {alt: ...}``)."""

from docutils import nodes
from myst_nb.core.render import MimeData, NbElementRenderer
from sphinx.application import Sphinx

from labbook.words import said


def setup(app: Sphinx) -> dict:
    plain = NbElementRenderer.render_image

    def render_image(self: NbElementRenderer, data: MimeData) -> list[nodes.Element]:
        rendered = plain(self, data)
        alt = data.output_metadata.get(data.mime_type, {}).get("alt")
        for node in rendered:
            for image in node.findall(nodes.image):
                if alt:
                    image["alt"] = said(alt)
        return rendered

    NbElementRenderer.render_image = render_image
    return {"parallel_read_safe": True, "parallel_write_safe": True}
