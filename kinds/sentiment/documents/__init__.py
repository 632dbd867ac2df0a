"""Watch lists, and the analysis of documents: preparation, language, links to entities and signatures."""
