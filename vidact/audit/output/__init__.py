"""Write an audit: tables, sentences, pictures, JUnit."""
